// Any text as a packet: it is refused with a line that can be printed, or it has a canonical form
// that means the same, and a frame whose lengths and checksums are right.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "dataplane/packet/packet_text.h"
#include "tests/fuzz/check.h"
#include "tests/support/packet_builder.h"

namespace guideway {
namespace {

using Kind = PacketText::Kind;
using testing::Bytes;
using testing::Checksum;

void CheckError(const absl::Status& status) {
  constexpr size_t kLongest = 1000;
  CHECK_THAT(status.code() == absl::StatusCode::kInvalidArgument);
  const std::string message(status.message());
  CHECK_THAT(!message.empty() && message.size() < kLongest);
  CHECK_THAT(std::none_of(message.begin(), message.end(), absl::ascii_iscntrl));
}

void CheckFields(const PacketText& packet) {
  CHECK_THAT(packet.source.bits() != 0 && packet.source.bits() == packet.destination.bits());
  CHECK_THAT((packet.kind == Kind::kIcmp) == (packet.source_port == 0));
  CHECK_THAT((packet.kind == Kind::kIcmp) == (packet.destination_port == 0));
  CHECK_THAT(!packet.syn || packet.kind == Kind::kTcp);
}

void CheckFrame(const PacketText& packet) {
  const Bytes frame = packet.Frame();
  const bool is_v6 = packet.source.is_v6();
  const int header = is_v6 ? 40 : 20;
  CHECK_THAT(frame.size() >= 14u + header);
  const Bytes ip(frame.begin() + 14, frame.end());
  const Bytes transport(ip.begin() + header, ip.end());
  const size_t length = is_v6 ? ip[4] << 8 | ip[5] : (ip[2] << 8 | ip[3]) - header;
  CHECK_THAT(transport.size() == length);
  CHECK_THAT(is_v6 || Checksum({ip.begin(), ip.begin() + header}) == 0);
  const uint8_t protocol = is_v6 ? ip[6] : ip[9];
  Bytes summed;
  if (packet.kind != Kind::kIcmp || is_v6) {
    summed.assign(ip.begin() + (is_v6 ? 8 : 12), ip.begin() + header);
    summed.insert(summed.end(), {0, protocol, 0, static_cast<uint8_t>(length)});
  }
  summed.insert(summed.end(), transport.begin(), transport.end());
  CHECK_THAT(Checksum(summed) == 0);
}

void Run(const std::string& text) {
  const absl::StatusOr<PacketText> packet = PacketText::Parse(text);
  if (!packet.ok()) return CheckError(packet.status());
  CheckFields(*packet);
  const std::string canonical = packet->ToString();
  const absl::StatusOr<PacketText> again = PacketText::Parse(canonical);
  CHECK_THAT(again.ok() && *again == *packet);
  CHECK_THAT(again->ToString() == canonical);
  CheckFrame(*packet);
}

}  // namespace
}  // namespace guideway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  guideway::Run(std::string(reinterpret_cast<const char*>(bytes), size));
  return 0;
}

#include "dataplane/packet/headers.h"
#include "dataplane/packet/stages.h"

namespace guideway {
namespace {

// The checksum covers the whole message, so it is looked at only where it matters: to a VIP.
bool HasWrongIcmpChecksum(const Frame& frame, const ParsedPacket& packet, const FlowKey& key) {
  if (key.protocol != kProtocolIcmp || packet.is_fragment) return false;
  return InternetChecksum(frame.data + packet.ip_offset + packet.header_length,
                          packet.ip_length - packet.header_length) != 0;
}

}  // namespace

void Match(const Snapshot& snapshot, const FlowTable& flows, Burst& burst) {
  burst.ForUndecided([&](uint8_t i) {
    const ParsedPacket& packet = burst.packets[i];
    const FlowKey& key = burst.keys[i];
    if (!snapshot.IsVip(packet.destination)) return burst.Finish(i, Verdict::kPunt);
    if (packet.source == packet.destination || HasWrongIcmpChecksum(burst.frames[i], packet, key)) {
      return burst.Drop(i, Reason::kMalformed);
    }
    if (packet.is_later_fragment) return burst.Drop(i, Reason::kFragmentUnknown);

    burst.services[i] =
        snapshot.FindService(packet.destination, key.protocol, NetworkOrder(key.destination_port));
    if (burst.services[i] == nullptr) return burst.Drop(i, Reason::kPortNotServed);
    burst.hashes[i] = HashFlow(key, snapshot.hash_seed());
    flows.Prefetch(burst.hashes[i]);
    return true;
  });
}

}  // namespace guideway

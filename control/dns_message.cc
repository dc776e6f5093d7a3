#include "control/dns_message.h"

#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace guideway {
namespace {

constexpr size_t kHeaderSize = 12;

void Append16(std::string* message, uint16_t value) {
  message->push_back(static_cast<char>(value >> 8));
  message->push_back(static_cast<char>(value));
}

// Reads a message from its start; what is missing makes it not `ok`, and reads as 0.
class Reader {
 public:
  explicit Reader(absl::string_view message) : rest_(message) {}

  bool ok() const { return ok_; }

  absl::string_view Take(size_t size) {
    ok_ = ok_ && size <= rest_.size();
    if (!ok_) return "";
    const absl::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  uint8_t Take8() {
    const absl::string_view byte = Take(1);
    return ok_ ? static_cast<uint8_t>(byte[0]) : 0;
  }
  uint16_t Take16() {
    const uint8_t high = Take8();
    return static_cast<uint16_t>(high << 8 | Take8());
  }
  // Labels up to the root's or up to a pointer, which nobody follows.
  void SkipName() {
    while (ok_) {
      const uint8_t length = Take8();
      if (length >= 0xc0) {
        Take8();
        return;
      }
      ok_ = ok_ && length < 64;
      if (length == 0) return;
      Take(length);
    }
  }

 private:
  absl::string_view rest_;
  bool ok_ = true;
};

}  // namespace

std::string DnsQuery(uint16_t id, absl::string_view name) {
  std::string message;
  Append16(&message, id);
  Append16(&message, 0x0100);  // a query; recursion desired
  Append16(&message, 1);       // questions
  message.append(6, '\0');     // nothing in the other sections
  for (absl::string_view label : absl::StrSplit(absl::StripSuffix(name, "."), '.')) {
    message.push_back(static_cast<char>(label.size()));
    absl::StrAppend(&message, label);
  }
  message.push_back('\0');
  Append16(&message, 1);  // A
  Append16(&message, 1);  // IN
  return message;
}

std::optional<int> DnsResponseCode(absl::string_view query, absl::string_view answer) {
  Reader reader(answer);
  const absl::string_view id = reader.Take(2);
  const uint16_t flags = reader.Take16();
  const uint16_t questions = reader.Take16();
  uint32_t records = 0;
  for (int section = 0; section < 3; ++section) records += reader.Take16();
  if (!reader.ok() || id != query.substr(0, 2)) return std::nullopt;
  const bool is_response = (flags & 0x8000) != 0;
  const bool is_query = (flags & 0x7800) == 0;  // the opcode of both
  if (!is_response || !is_query) return std::nullopt;

  const int code = flags & 0xf;
  const absl::string_view asked = query.substr(kHeaderSize);
  if (questions == 1) {
    if (!absl::EqualsIgnoreCase(reader.Take(asked.size()), asked)) return std::nullopt;
  } else if (questions != 0 || code == 0) {
    return std::nullopt;
  }
  for (; records > 0 && reader.ok(); --records) {
    reader.SkipName();
    reader.Take(8);  // type, class, time to live
    reader.Take(reader.Take16());
  }
  if (!reader.ok()) return std::nullopt;
  return code;
}

std::string DnsResponseCodeName(int code) {
  constexpr std::array kNames = {"NOERROR",  "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
                                 "YXDOMAIN", "YXRRSET", "NXRRSET",  "NOTAUTH",  "NOTZONE"};
  return static_cast<size_t>(code) < kNames.size() ? kNames[code] : absl::StrCat(code);
}

}  // namespace guideway

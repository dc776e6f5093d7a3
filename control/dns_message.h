// DNS messages (RFC 1035), as much of them as a health probe needs: one question, and what an
// answer says of it.
//
// Pure functions; an answer may be any bytes.
#ifndef GUIDEWAY_CONTROL_DNS_MESSAGE_H_
#define GUIDEWAY_CONTROL_DNS_MESSAGE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace guideway {

// A query for the A record of `name`, recursion desired. `name` is of at most 253 bytes, its labels
// of 1 to 63; a last dot is allowed.
std::string DnsQuery(uint16_t id, absl::string_view name);

// The response code of an answer to `query`, 0 for no error. Nothing if it is none: another id or
// question (names are compared without case), no response, or a message that ends too early. An
// error may come without the question. What the answer says beside that is not looked at: no
// address at all, or more of them than fit (TC), is no error.
std::optional<int> DnsResponseCode(absl::string_view query, absl::string_view answer);

// «NXDOMAIN» (RFC 6895), or the number.
std::string DnsResponseCodeName(int code);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_DNS_MESSAGE_H_

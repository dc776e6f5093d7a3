// Any bytes as an answer to a query, and as what is behind a good answer's header: what
// dns_message.h promises must hold for each.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "control/dns_message.h"
#include "tests/fuzz/check.h"

namespace guideway {
namespace {

void Try(const std::string& query, const std::string& answer) {
  const std::optional<int> code = DnsResponseCode(query, answer);
  if (!code.has_value()) return;
  CHECK_THAT(*code >= 0 && *code <= 15);
  CHECK_THAT(!DnsResponseCodeName(*code).empty());
  CHECK_THAT(answer.size() >= 12 && answer.substr(0, 2) == query.substr(0, 2));
  CHECK_THAT((answer[2] & 0x80) != 0 && (answer[3] & 0xf) == *code);
  if (*code == 0) {
    CHECK_THAT(answer.size() >= query.size());
    CHECK_THAT(absl::EqualsIgnoreCase(absl::string_view(answer).substr(12, query.size() - 12),
                                      absl::string_view(query).substr(12)));
  }
}

}  // namespace
}  // namespace guideway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const std::string query = guideway::DnsQuery(0x6161, "www.example.com");
  guideway::Try(query, input);
  if (size >= 12)
    guideway::Try(query,
                  query.substr(0, 2) + input.substr(2, 10) + query.substr(12) + input.substr(12));
  return 0;
}

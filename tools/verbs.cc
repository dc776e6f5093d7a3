#include "tools/verbs.h"

#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "control/config/render_yaml.h"

namespace guideway {

bool ShowMessage(const Call& call, const google::protobuf::Message& message) {
  if (call.format == Format::kTable) return false;
  std::cout << (call.format == Format::kJson ? ToJson(message) : RenderYaml(message));
  return true;
}

int WrongCall(absl::string_view why, absl::string_view verb) {
  std::cerr << "guideway: " << why << (absl::EndsWith(why, "?") ? " See" : "; see") << " `guideway "
            << (verb.empty() ? "" : absl::StrCat(verb, " ")) << "--help`\n";
  return kWrongCall;
}

int WrongPacket(absl::string_view why, absl::string_view verb) {
  const int status = WrongCall(why, verb);
  std::cerr << "a PACKET is one of these, in quotes:\n"
               "  'tcp 203.0.113.7:40000 > 198.51.100.10:80 syn'    opens a connection; without "
               "syn it is in the middle of one\n"
               "  'udp [2001:db8::7]:40000 > [2001:db8::10]:53'     IPv6 in brackets\n"
               "  'icmp 203.0.113.7 > 198.51.100.10'                an echo request\n";
  return status;
}

int No(const absl::Status& status) {
  std::cerr << status.message() << "\n";
  return kNo;
}

}  // namespace guideway

#include "tools/verbs.h"

#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
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

int Refused(const absl::Status& status, absl::string_view verb) {
  return absl::IsNotFound(status) || absl::IsInvalidArgument(status)
             ? WrongCall(status.message(), verb)
             : No(status);
}

void ShowWarnings(const google::protobuf::RepeatedPtrField<std::string>& warnings) {
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
}

bool ReadRevision(const Call& call, absl::string_view verb, uint64_t* number) {
  *number = 0;
  if (call.args.empty()) return true;
  if (call.args.size() > 1) {
    WrongCall(absl::StrCat("\"", call.args[1], "\" is one argument too many for ", verb), verb);
    return false;
  }
  if (absl::SimpleAtoi(call.args[0], number) && *number > 0) return true;
  WrongCall(
      absl::StrCat("\"", call.args[0], "\" is no revision's number; `guideway history` lists them"),
      verb);
  return false;
}

}  // namespace guideway

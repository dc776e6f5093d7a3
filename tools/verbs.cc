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

int No(const absl::Status& status) {
  std::cerr << status.message() << "\n";
  return kNo;
}

}  // namespace guideway

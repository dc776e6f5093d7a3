// A configuration as a call names it: the path of a file, or `-` for standard input. In messages
// that one is «<stdin>»; relative names of files in it start at the working directory.
#ifndef GUIDEWAY_TOOLS_CONFIGURATION_H_
#define GUIDEWAY_TOOLS_CONFIGURATION_H_

#include <string>

#include "absl/status/statusor.h"
#include "control/config/config.h"

namespace guideway {

// The name of standard input in all that is said of what came from there.
inline constexpr char kStandardInput[] = "<stdin>";

struct NamedText {
  std::string name;  // as messages have it
  std::string text;
};

// An error is as of ReadConfigFile. Standard input can be read once; an empty one is an error.
absl::StatusOr<NamedText> ReadConfiguration(const std::string& file);

// As LoadConfigFile.
absl::StatusOr<LoadedConfig> LoadConfiguration(const std::string& file);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_CONFIGURATION_H_

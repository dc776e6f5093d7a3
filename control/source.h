// What a configuration is made of: a text, and the contents of the files that it names. Whoever has
// both can put the same in force again, whatever has become of the files meanwhile.
//
// Safe from any thread.
#ifndef GUIDEWAY_CONTROL_SOURCE_H_
#define GUIDEWAY_CONTROL_SOURCE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "control/config/config.h"

namespace guideway {

// Contents of the files that a configuration names, by path; keys among them.
using FileContents = std::map<std::string, std::string>;

struct ConfigSource {
  std::string name;  // of the file that the text is from, for people
  std::string home;  // a file; relative paths start at its directory
  std::string text;  // YAML
  // Never null. They are needed for longer than the text, which the history keeps.
  std::shared_ptr<const FileContents> files = std::make_shared<const FileContents>();
  std::string digest;  // of text and files
};

// A configuration without errors.
struct LoadedSource {
  LoadedConfig config;
  std::shared_ptr<const ConfigSource> source;
};

// LoadConfig; errors are its.
absl::StatusOr<LoadedSource> LoadSource(std::string name, std::string text, std::string home,
                                        const FileReader& read = ReadNamedFile);

// The file at `path`, and what is in the files that it names.
absl::StatusOr<LoadedSource> LoadSourceFile(const std::string& path);

// What was loaded once, with the contents from then.
absl::StatusOr<LoadedSource> LoadSource(const ConfigSource& source);

// SHA-256, as 64 hexadecimal digits.
std::string Sha256(absl::string_view bytes);

// As in ConfigSource.
std::string DigestOf(absl::string_view text, const FileContents& files);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_SOURCE_H_

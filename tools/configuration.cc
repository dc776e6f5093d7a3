#include "tools/configuration.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace guideway {
namespace {

// By its descriptor: /dev/stdin cannot be opened where it is a socket or another user's pipe.
absl::StatusOr<std::string> ReadStandardInput() {
  if (isatty(STDIN_FILENO) != 0) {
    std::cerr << "the configuration is read from this terminal; Ctrl-D ends it\n";
  }
  std::string text;
  char chunk[65536];
  for (;;) {
    const ssize_t size = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      return absl::Status(absl::ErrnoToStatusCode(errno),
                          absl::StrCat(kStandardInput, ": ", std::strerror(errno)));
    }
    if (size == 0) break;
    text.append(chunk, static_cast<size_t>(size));
    if (text.size() > kMaxConfigBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          kStandardInput, ":1:1: the file is larger than ", kMaxConfigBytes >> 20, " MiB"));
    }
  }
  return text;
}

}  // namespace

absl::StatusOr<NamedText> ReadConfiguration(const std::string& file) {
  const bool standard_input = file == "-";
  absl::StatusOr<std::string> text = standard_input ? ReadStandardInput() : ReadConfigFile(file);
  if (!text.ok()) return text.status();
  const std::string& name = standard_input ? kStandardInput : file;
  if (text->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ":1:1: it is empty; allowed: a configuration",
                     standard_input ? ", as from `… < guideway.yaml`" : ""));
  }
  return NamedText{name, *std::move(text)};
}

absl::StatusOr<LoadedConfig> LoadConfiguration(const std::string& file) {
  const absl::StatusOr<NamedText> read = ReadConfiguration(file);
  if (!read.ok()) return read.status();
  return LoadConfig(absl::string_view(read->name), absl::string_view(read->text), ReadNamedFile);
}

}  // namespace guideway

#include "control/config/config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "control/config/diagnostics.h"
#include "control/config/support.h"
#include "control/config/validate.h"
#include "control/config/walker.h"
#include "control/config/yaml_tree.h"

namespace guideway {
namespace {

absl::Status TooLarge(absl::string_view file_name) {
  return absl::InvalidArgumentError(
      absl::StrCat(file_name, ":1:1: the file is larger than ", kMaxConfigBytes >> 20, " MiB"));
}

absl::Status Errors(const Findings& findings) {
  return absl::InvalidArgumentError(
      absl::StrJoin(findings.Lines(Severity::kError, kMaxConfigErrors), "\n"));
}

}  // namespace

absl::StatusOr<LoadedConfig> LoadConfig(absl::string_view file_name, absl::string_view text) {
  if (text.size() > kMaxConfigBytes) return TooLarge(file_name);
  const SourceText source(file_name, text);
  Findings findings(&source);
  const std::optional<YamlTree> tree = YamlTree::Parse(source, &findings);
  if (!tree.has_value()) return Errors(findings);

  LoadedConfig loaded;
  Places places(&*tree);
  WalkYaml(*tree, &loaded.config, &places, &findings);
  ValidateConfig(&loaded.config, places, &findings);
  if (findings.has_errors()) return Errors(findings);

  for (const config::Service& service : loaded.config.services()) {
    loaded.regions.push_back(RegionsOf(service));
  }
  loaded.quic.resize(loaded.regions.size());
  CheckSupport(loaded.config, places, &findings);
  loaded.warnings = findings.Lines(Severity::kWarning, Findings::kMaxKept);
  loaded.unsupported = findings.Lines(Severity::kUnsupported, Findings::kMaxKept);
  return loaded;
}

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  const auto failed = [&](int error) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot read the configuration file ", path));
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return failed(errno);
  const absl::Cleanup close_file = [file] { close(file); };
  struct stat status;
  if (fstat(file, &status) != 0) return failed(errno);
  if (S_ISDIR(status.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the configuration file ", path, " is a directory"));
  }
  // Pipes are fine (check <(generate)), so the size is what arrives.
  if (fcntl(file, F_SETFL, 0) != 0) return failed(errno);
  std::string text;
  char chunk[65536];
  for (;;) {
    const ssize_t size = read(file, chunk, sizeof(chunk));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return failed(errno);
    if (size == 0) break;
    text.append(chunk, static_cast<size_t>(size));
    if (text.size() > kMaxConfigBytes) return TooLarge(absl::string_view(path));
  }
  return text;
}

absl::StatusOr<LoadedConfig> LoadConfigFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadConfigFile(path);
  if (!text.ok()) return text.status();
  return LoadConfig(absl::string_view(path), absl::string_view(*text));
}

}  // namespace guideway

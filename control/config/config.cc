#include "control/config/config.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "control/config/diagnostics.h"
#include "control/config/named_files.h"
#include "control/config/support.h"
#include "control/config/validate.h"
#include "control/config/walker.h"
#include "control/config/yaml_tree.h"

namespace guideway {
namespace {

absl::Status Errors(const Findings& findings) {
  return absl::InvalidArgumentError(
      absl::StrJoin(findings.Lines(Severity::kError, kMaxConfigErrors), "\n"));
}

}  // namespace

absl::StatusOr<LoadedConfig> LoadConfig(absl::string_view file_name, absl::string_view text,
                                        const FileReader& read, absl::string_view home) {
  if (text.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file_name, ":1:1: the file is larger than ", kMaxConfigBytes >> 20, " MiB"));
  }
  const SourceText source(file_name, text);
  Findings findings(&source);
  const std::optional<YamlTree> tree = YamlTree::Parse(source, &findings);
  if (!tree.has_value()) return Errors(findings);

  LoadedConfig loaded;
  Places places(&*tree);
  WalkYaml(*tree, &loaded.config, &places, &findings);
  ValidateConfig(&loaded.config, places, &findings);
  NamedFiles files(loaded.config, places, home.empty() ? file_name : home, read, &findings);
  if (findings.has_errors()) return Errors(findings);

  for (const config::Service& service : loaded.config.services()) {
    loaded.regions.push_back(RegionsOf(service));
    loaded.quic.push_back(files.QuicOf(service));
  }
  loaded.access = files.AccessMap();
  const config::Control& control = loaded.config.control();
  loaded.control_group_place = source.At(places.OfValue(control, "group"));
  loaded.control_readers_place = source.At(places.OfValue(control, "readers"));
  CheckSupport(loaded.config, places, &findings);
  loaded.warnings = findings.Lines(Severity::kWarning, Findings::kMaxKept);
  loaded.unsupported = findings.Lines(Severity::kUnsupported, Findings::kMaxKept);
  return loaded;
}

absl::StatusOr<LoadedConfig> LoadConfigFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadConfigFile(path);
  if (!text.ok()) return text.status();
  return LoadConfig(absl::string_view(path), absl::string_view(*text), ReadNamedFile);
}

}  // namespace guideway

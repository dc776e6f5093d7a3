#include "control/config/config.h"

#include <glog/logging.h>

#include <initializer_list>
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

// As in LoadedConfig.
absl::flat_hash_map<std::string, std::string> PlacesOf(const config::Config& config,
                                                       const Places& places,
                                                       const SourceText& source) {
  absl::flat_hash_map<std::string, std::string> found;
  found["interfaces"] = source.At(places.OfKey(config, "interfaces"));
  for (const config::Interface& interface : config.interfaces()) {
    found[absl::StrCat("interfaces (", interface.name(), ")")] = source.At(places.Of(interface));
  }
  const auto add = [&](absl::string_view mapping, const google::protobuf::Message& message,
                       std::initializer_list<absl::string_view> keys) {
    for (const absl::string_view key : keys) {
      // Of a mapping that is not there itself, the file's.
      found[absl::StrCat(mapping, ".", key)] = source.At(places.OfValue(message, key));
    }
  };
  add("dataplane", config.dataplane(), {"workers", "idle", "hugepages", "flows_per_worker"});
  add("control", config.control(), {"socket", "http", "group", "readers"});
  add("fleet", config.fleet(), {"hash_seed"});
  found["the number in fleet.hash_seed_file"] =
      source.At(places.OfValue(config.fleet(), "hash_seed_file"));
  for (int i = 0; i < config.dataplane().workers_size(); ++i) {
    found[absl::StrCat("dataplane.workers[", i, "]")] =
        source.At(places.OfValue(config.dataplane(), "workers", i));
  }
  for (const config::Interface& interface : config.interfaces()) {
    found[DeviceKey(interface)] = source.At(places.OfValue(interface, "device"));
  }
  return found;
}

}  // namespace

std::string DeviceKey(const config::Interface& interface) {
  return absl::StrCat("interfaces[", interface.name(), "].device");
}

std::string LoadedConfig::Where(absl::string_view key) const {
  const auto place = places.find(key);
  CHECK(place != places.end()) << key;
  return absl::StrCat(place->second, ": ", key);
}

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

  const auto services = static_cast<size_t>(loaded.config.services_size());
  loaded.regions.reserve(services);
  loaded.quic.reserve(services);
  for (const config::Service& service : loaded.config.services()) {
    loaded.regions.push_back(RegionsOf(service));
    loaded.quic.push_back(files.QuicOf(service));
  }
  loaded.hash_seed = files.hash_seed();
  loaded.access = files.AccessMap();
  loaded.places = PlacesOf(loaded.config, places, source);
  CheckSupport(loaded.config, places, &findings);
  loaded.warnings = findings.Lines(Severity::kWarning, Findings::kMaxKept);
  // Without what messages keep of fields that were cleared, and the room that lists have to grow.
  loaded.config = config::Config(loaded.config);
  return loaded;
}

std::map<std::string, std::string> ReadNamedFiles(const config::Config& config,
                                                  absl::string_view home, const FileReader& read) {
  std::map<std::string, std::string> files;
  const auto add = [&](const std::string& name) {
    const std::string path = ResolvePath(home, name);
    if (files.contains(path)) return;
    absl::StatusOr<std::string> contents = read(path);
    if (contents.ok()) files[path] = *std::move(contents);
  };
  for (const std::string& name : config.access().allow_files()) add(name);
  for (const std::string& name : config.access().deny_files()) add(name);
  for (const config::Service& service : config.services()) {
    for (const config::QuicConfig& quic : service.quic().configs()) {
      if (quic.has_key_file()) add(quic.key_file());
    }
  }
  return files;
}

absl::StatusOr<LoadedConfig> LoadConfigFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadConfigFile(path);
  if (!text.ok()) return text.status();
  return LoadConfig(absl::string_view(path), absl::string_view(*text), ReadNamedFile);
}

}  // namespace guideway

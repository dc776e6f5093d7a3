// The configuration file: YAML text in, one checked message out, or every error with its place.
//
// LoadConfig is pure: a function of the text, and of what `read` says is in the files that it
// names; without clock, sockets or threads. Any number of threads may call it. It goes through four
// steps, each of which reports all it finds:
//   yaml_tree.h   text to a tree of scalars, lists and mappings that remember where they stood;
//   walker.h      tree to config::Config by the schema's descriptors: keys, types, ranges;
//   validate.h    what several keys say together: names, references, contradictions, keys without
//                 effect;
//   named_files.h lists of prefixes, keys and the hash seed, in files of their own.
//
// What always holds for a LoadedConfig:
//   * every scalar has been checked against its format and range, so the accessors of
//     config_values.h parse without errors;
//   * names are unique, references lead somewhere, and no two services claim one packet;
//   * defaults are filled in, but for keys whose default depends on something else (see
//     config_values.h) and for keys that would have no effect;
//   * RenderYaml(config) loads again, and to an equal message.
//
// A line about the file always reads FILE:LINE:COLUMN: KEY: what was found; what is allowed. One
// about a file that it names has that file's place, and no key. Lines and columns count from 1,
// columns in characters.
#ifndef GUIDEWAY_CONTROL_CONFIG_CONFIG_H_
#define GUIDEWAY_CONTROL_CONFIG_CONFIG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "control/config/config.pb.h"
#include "control/config/config_values.h"
#include "control/config/files.h"
#include "control/config/render_yaml.h"
#include "maglev/prefix_map.h"
#include "maglev/quic_lb.h"

namespace guideway {

// Errors of one file that are listed; of more, only the number is told.
inline constexpr size_t kMaxConfigErrors = 50;

struct LoadedConfig {
  config::Config config;

  // Of each service with `scheduler: geographic`: the index of the region that an address is in.
  // Null for the others.
  std::vector<std::shared_ptr<const PrefixMap>> regions;

  // Of each service with `quic`: from a connection id to the index of its backend in BackendOrder.
  // Null for the others.
  std::vector<std::shared_ptr<const QuicLb>> quic;

  // `fleet.hash_seed`, or the number in `hash_seed_file`.
  uint64_t hash_seed = 0;

  // `access` with all of its files; values of Access. Null when nobody is denied.
  std::shared_ptr<const PrefixMap> access;

  // FILE:LINE:COLUMN of those keys about which the file alone does not say whether they can be had:
  // what is fixed while guidewayd runs, by the names of FixedKeysThatDiffer (control/plan.h), and
  // what only the host can judge: its groups, each of `dataplane.workers[0]`…, and each
  // `interfaces[NAME].device`. A key that is not there has the place of the mapping that lacks it,
  // or where that is missing too of the file.
  absl::flat_hash_map<std::string, std::string> places;
  // «FILE:LINE:COLUMN: KEY» of one of them: how an error about it begins.
  std::string Where(absl::string_view key) const;

  // What an operator should know, though the file is served, among it what this version does not
  // act on yet: one line each, in file order.
  std::vector<std::string> warnings;
};

// As `places` has the device of an interface.
std::string DeviceKey(const config::Interface& interface);

// InvalidArgument: the message is every error, one a line, in file order, up to kMaxConfigErrors;
// those of a file that the configuration names stand where it names it. `file_name` is for the
// messages. `read` is called once for each file that is named in a part without errors of its own;
// its path, unless absolute, starts at the directory of `home`, or of `file_name` if that is empty.
absl::StatusOr<LoadedConfig> LoadConfig(absl::string_view file_name, absl::string_view text,
                                        const FileReader& read, absl::string_view home = {});

// What is in the files that a loaded configuration names for `access` and `quic`, by path, as of
// now; without those that cannot be read. `home` as for LoadConfig.
std::map<std::string, std::string> ReadNamedFiles(const config::Config& config,
                                                  absl::string_view home,
                                                  const FileReader& read = ReadNamedFile);

// LoadConfig of the text at `path`, with what is in the files.
absl::StatusOr<LoadedConfig> LoadConfigFile(const std::string& path);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_CONFIG_H_

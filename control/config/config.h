// The configuration file: YAML text in, one checked message out, or every error with its place.
//
// LoadConfig is pure: a function of the text, and of what `read` says is in the files that it
// names; without clock, sockets or threads. Any number of threads may call it. It goes through four
// steps, each of which reports all it finds:
//   yaml_tree.h   text to a tree of scalars, lists and mappings that remember where they stood;
//   walker.h      tree to config::Config by the schema's descriptors: keys, types, ranges;
//   validate.h    what several keys say together: names, references, contradictions, keys without
//                 effect;
//   named_files.h lists of prefixes and keys that are in files of their own.
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

#include <memory>
#include <string>
#include <vector>

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

  // `access` with all of its files; values of Access. Null when nobody is denied.
  std::shared_ptr<const PrefixMap> access;

  // FILE:LINE:COLUMN of control.group and control.readers, if they are there: only the host can say
  // whether it has these groups.
  std::string control_group_place, control_readers_place;

  // What an operator should know, though the file is in force: one line each, in file order.
  std::vector<std::string> warnings;

  // What the schema allows and this version cannot do, where leaving it undone would treat packets
  // wrongly. The daemon refuses a file with such lines; `guideway check` shows them as warnings.
  std::vector<std::string> unsupported;
};

// InvalidArgument: the message is every error, one a line, in file order, up to kMaxConfigErrors;
// those of a file that the configuration names stand where it names it. `file_name` is for the
// messages. `read` is called once for each file that is named in a part without errors of its own;
// its path, unless absolute, starts at the directory of `home`, or of `file_name` if that is empty.
absl::StatusOr<LoadedConfig> LoadConfig(absl::string_view file_name, absl::string_view text,
                                        const FileReader& read, absl::string_view home = {});

// LoadConfig of the text at `path`, with what is in the files.
absl::StatusOr<LoadedConfig> LoadConfigFile(const std::string& path);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_CONFIG_H_

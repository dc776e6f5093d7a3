// What is in the files that a configuration names: lists of prefixes, for `access`, the keys of
// QUIC connection ids, and the hash seed.
//
// The fourth step of LoadConfig (config.h). It reads whatever is named in a part of the
// configuration without errors of its own, so that the faults of a file are told beside all others:
//
//   a file that cannot be read                 where the configuration names it
//   a line that is no prefix, a key or a       at its place in its own file; of a file with many
//   number that is none                        faults the first kMaxErrorsOfAFile, and their number
//
// A list of prefixes has one a line: «10.0.0.0/8», «2001:db8::/32», or a bare address. What follows
// a # is a comment; empty lines, white space around and CR LF are fine. A key is 32 hexadecimal
// digits with nothing but white space around. No message shows any part of one.
#ifndef GUIDEWAY_CONTROL_CONFIG_NAMED_FILES_H_
#define GUIDEWAY_CONTROL_CONFIG_NAMED_FILES_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "control/config/config.pb.h"
#include "control/config/diagnostics.h"
#include "control/config/files.h"
#include "control/config/walker.h"
#include "maglev/prefix_map.h"
#include "maglev/quic_lb.h"
#include "maglev/snapshot.h"

namespace guideway {

// The prefixes of such a list, as they stand in it; lines that are no prefix are left out.
std::vector<Prefix> PrefixesIn(absl::string_view list);

class NamedFiles {
 public:
  // Errors of one file that are told.
  static constexpr size_t kMaxErrorsOfAFile = 10;
  // Prefixes in `access` and its files together.
  static constexpr size_t kMaxAccessPrefixes = size_t{1} << 22;

  // Reads them. `config` must outlive this.
  NamedFiles(const config::Config& config, const Places& places, absl::string_view home,
             const FileReader& read, Findings* findings);

  // For a configuration without errors.
  uint64_t hash_seed() const { return hash_seed_; }
  // Of `access`: values of Access; null when nobody is denied.
  std::shared_ptr<const PrefixMap> AccessMap() const;
  // Of a service with `quic`: see LoadedConfig::quic. Null for the others.
  std::shared_ptr<const QuicLb> QuicOf(const config::Service& service) const;

 private:
  using Key = std::array<uint8_t, 16>;

  uint64_t hash_seed_ = 0;
  absl::flat_hash_map<Prefix, Access> access_;
  absl::flat_hash_map<const config::QuicConfig*, Key> keys_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_NAMED_FILES_H_

// A set of prefixes that answers which of them is the longest around an address: for the checks
// that compare every backend with every route or VIP. A hash probe per distinct length.
//
// Pure data; reading is safe from any thread. The packet path has its own, faster one.
#ifndef GUIDEWAY_CONTROL_CONFIG_PREFIX_SET_H_
#define GUIDEWAY_CONTROL_CONFIG_PREFIX_SET_H_

#include <functional>
#include <optional>
#include <set>

#include "absl/container/flat_hash_set.h"
#include "maglev/net.h"

namespace guideway {

class PrefixSet {
 public:
  // False if it is in the set already.
  bool Insert(const Prefix& prefix) {
    (prefix.address.is_v4() ? lengths_v4_ : lengths_v6_).insert(prefix.length);
    return prefixes_.insert(prefix).second;
  }

  std::optional<Prefix> Longest(const IpAddress& address) const {
    for (const int length : address.is_v4() ? lengths_v4_ : lengths_v6_) {
      const Prefix prefix = Prefix::Of(address, length);
      if (prefixes_.contains(prefix)) return prefix;
    }
    return std::nullopt;
  }

 private:
  using Lengths = std::set<int, std::greater<int>>;

  absl::flat_hash_set<Prefix> prefixes_;
  Lengths lengths_v4_, lengths_v6_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_PREFIX_SET_H_

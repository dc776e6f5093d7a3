// Who takes new connections, as `plan`, `drain`, `undrain` and `weight` say it.
#ifndef GUIDEWAY_TOOLS_SHARES_H_
#define GUIDEWAY_TOOLS_SHARES_H_

#include <google/protobuf/repeated_field.h>

#include <string>

#include "absl/strings/string_view.h"
#include "control/api/api.pb.h"

namespace guideway {

// «web», or «region eu of web»: whose new connections backends have shares of.
std::string PoolText(const std::string& service, const std::string& region);

// The backends that serve one pool, `region` empty where there are none.
struct PoolShares {
  std::string service, region;
  std::string served_by;  // the region whose backends take them; empty: nobody does, or no regions
  google::protobuf::RepeatedPtrField<api::BackendShare> shares;  // theirs, maybe with others'

  // «new connections of web now go to web-1 50.0%, web-3 50.0%». `when`: «now», «then».
  std::string Text(absl::string_view when) const;
  // Nobody takes them, so Text is about drops.
  bool dropped() const;
  // The backend takes some of them.
  bool Has(absl::string_view backend) const;
};

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_SHARES_H_

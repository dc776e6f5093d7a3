#include "tools/shares.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tools/output.h"

namespace guideway {

std::string PoolText(const std::string& service, const std::string& region) {
  return region.empty() ? service : absl::StrCat("region ", region, " of ", service);
}

bool PoolShares::dropped() const {
  return std::none_of(shares.begin(), shares.end(), [&](const api::BackendShare& share) {
    return share.region() == region || share.region() == served_by;
  });
}

bool PoolShares::Has(absl::string_view backend) const {
  return std::any_of(shares.begin(), shares.end(), [&](const api::BackendShare& share) {
    return share.name() == backend && share.region() == (served_by.empty() ? region : served_by);
  });
}

std::string PoolShares::Text(absl::string_view when) const {
  const std::string pool = PoolText(service, region);
  if (dropped()) {
    return absl::StrCat("no backend takes new connections of ", pool,
                        when == "now" ? "" : absl::StrCat(" ", when), ": they are dropped");
  }
  const bool own = served_by.empty() || served_by == region;
  std::vector<std::string> takers;
  for (const api::BackendShare& share : shares) {
    if (share.region() != (own ? region : served_by)) continue;
    takers.push_back(absl::StrCat(share.name(), " ", HumanPercent(share.share())));
  }
  const std::string to = Listed(takers, 10);
  if (own) return absl::StrCat("new connections of ", pool, " ", when, " go to ", to);
  return absl::StrCat("no backend of ", pool, " takes new connections ", when,
                      ": they go to region ", served_by, ", to ", to);
}

}  // namespace guideway

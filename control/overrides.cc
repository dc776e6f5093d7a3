#include "control/overrides.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"

namespace guideway {

Override OverrideOf(const Overrides& overrides, const std::string& name) {
  const auto found = overrides.find(name);
  return found == overrides.end() ? Override() : found->second;
}

void SetOverride(Overrides* overrides, const std::string& name, const Override& to) {
  if (to.empty()) {
    overrides->erase(name);
  } else {
    (*overrides)[name] = to;
  }
}

google::protobuf::RepeatedPtrField<api::Override> ToApi(const Overrides& overrides) {
  google::protobuf::RepeatedPtrField<api::Override> list;
  for (const auto& [name, override] : overrides) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(name, absl::MaxSplits('/', 1));
    api::Override& out = *list.Add();
    out.set_service(parts.first);
    out.set_backend(parts.second);
    out.set_drained(override.drained);
    if (override.weight) out.set_weight(*override.weight);
  }
  return list;
}

Overrides FromApi(const google::protobuf::RepeatedPtrField<api::Override>& list) {
  Overrides overrides;
  for (const api::Override& one : list) {
    Override override = {.drained = one.drained(), .weight = std::nullopt};
    if (one.has_weight() && one.weight() <= kMaxWeight) override.weight = one.weight();
    SetOverride(&overrides, absl::StrCat(one.service(), "/", one.backend()), override);
  }
  return overrides;
}

std::string ToText(const Overrides& overrides) {
  std::vector<std::string> parts;
  for (const auto& [name, override] : overrides) {
    if (override.drained) parts.push_back(absl::StrCat("drain ", name));
    if (override.weight) parts.push_back(absl::StrCat("weight ", name, " ", *override.weight));
  }
  return absl::StrJoin(parts, ", ");
}

}  // namespace guideway

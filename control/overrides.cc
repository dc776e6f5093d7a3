#include "control/overrides.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"
#include "control/revision.h"

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

void OverrideAuthors::Follow(const api::Revision& revision) {
  std::shared_ptr<const api::Author> author;
  // What is new with it is its author's, if it is the next.
  if (revision.number() == std::exchange(last_, revision.number()) + 1) {
    auto made = std::make_shared<api::Author>();
    made->set_who(revision.who());
    made->set_time(revision.time());
    author = std::move(made);
  }
  std::map<std::string, Authors> before;
  before.swap(authors_);
  for (const auto& [name, override] : FromApi(revision.overrides())) {
    Authors& now = authors_[name] = {override, author, author};
    const auto found = before.find(name);
    if (found == before.end()) continue;
    const Authors& was = found->second;
    if (was.override.drained) now.drained_by = was.drained_by;
    if (was.override.weight == override.weight) now.weight_by = was.weight_by;
  }
}

const api::Author* OverrideAuthors::OfDrain(const std::string& name) const {
  const auto found = authors_.find(name);
  if (found == authors_.end() || !found->second.override.drained) return nullptr;
  return found->second.drained_by.get();
}

const api::Author* OverrideAuthors::OfWeight(const std::string& name) const {
  const auto found = authors_.find(name);
  if (found == authors_.end() || !found->second.override.weight) return nullptr;
  return found->second.weight_by.get();
}

std::string ToText(const Overrides& overrides) {
  std::vector<std::string> parts;
  for (const auto& [name, override] : overrides) {
    if (override.drained) parts.push_back(absl::StrCat("drain ", name));
    if (override.weight) parts.push_back(absl::StrCat("weight ", name, " ", *override.weight));
  }
  return absl::StrJoin(parts, ", ");
}

void ChangeByHand::Apply(Overrides* overrides) const {
  Override override = OverrideOf(*overrides, backend);
  if (what == ByHand::kWeight) {
    override.weight = weight;
  } else {
    override.drained = what == ByHand::kDrain;
  }
  SetOverride(overrides, backend, override);
}

std::vector<std::string> OverridesFit::WhatEnds() const {
  std::vector<std::string> all;
  if (!gone.empty()) {
    all.push_back(absl::StrCat(
        "done by hand and dropped, for the configuration has no such backend: ", ToText(gone)));
  }
  if (!same.empty()) {
    all.push_back(absl::StrCat(
        "done by hand and ended, for the configuration has the same weight: ", ToText(same)));
  }
  return all;
}

OverridesFit FitTo(const Revision& revision, const Overrides& overrides) {
  OverridesFit fit;
  for (const auto& [name, override] : overrides) {
    const std::optional<Revision::Place> place = revision.PlaceOf(name);
    if (!place) {
      fit.gone[name] = override;
      continue;
    }
    Override standing = override;
    if (standing.weight == revision.BackendAt(*place).weight()) {
      fit.same[name].weight = std::exchange(standing.weight, std::nullopt);
    }
    SetOverride(&fit.standing, name, standing);
  }
  return fit;
}

std::vector<std::string> WhatHolds(const Revision& before, const Revision& after,
                                   const Overrides& standing) {
  constexpr size_t kShown = 10;
  std::vector<std::string> weights, drained;
  size_t more_weights = 0, more_drained = 0;
  const auto add = [](const std::string& what, std::vector<std::string>* to, size_t* more) {
    if (to->size() < kShown) {
      to->push_back(what);
    } else {
      ++*more;
    }
  };
  for (const auto& [name, override] : standing) {
    const std::optional<Revision::Place> was = before.PlaceOf(name), is = after.PlaceOf(name);
    if (!was || !is) continue;
    const config::Backend& then = before.BackendAt(*was);
    const config::Backend& now = after.BackendAt(*is);
    const bool new_weight = then.weight() != now.weight();
    if (override.weight && new_weight) {
      add(absl::StrCat(name, " ", *override.weight, " (configuration: ", then.weight(), ", now ",
                       now.weight(), ")"),
          &weights, &more_weights);
    }
    const bool drains = now.state() == config::AdminState::drain;
    const bool is_another = !IsSameServer(before.config().services(was->service), then,
                                          after.config().services(is->service), now);
    if (override.drained && !drains && (is_another || new_weight || then.state() != now.state())) {
      add(absl::StrCat(name, " (configuration: weight ", now.weight(), ")"), &drained,
          &more_drained);
    }
  }
  const auto sentence = [](absl::string_view what, const std::vector<std::string>& names,
                           size_t more, absl::string_view end) {
    return absl::StrCat(what, absl::StrJoin(names, ", "),
                        more > 0 ? absl::StrCat(" and ", more, " more") : "", ": ", end,
                        ", or an `apply --discard-overrides`, ends that");
  };
  std::vector<std::string> all;
  if (!weights.empty()) {
    all.push_back(sentence("weights by hand hold over the configuration's: ", weights, more_weights,
                           "`guideway weight SERVICE/BACKEND file`"));
  }
  if (!drained.empty()) {
    all.push_back(sentence("drained by hand, whatever the configuration says: ", drained,
                           more_drained, "`guideway undrain SERVICE/BACKEND`"));
  }
  return all;
}

Overrides Without(const Overrides& overrides, const Overrides& others) {
  Overrides rest;
  for (const auto& [name, override] : overrides) {
    const Override other = OverrideOf(others, name);
    Override more = override;
    more.drained &= !other.drained;
    if (more.weight == other.weight) more.weight.reset();
    SetOverride(&rest, name, more);
  }
  return rest;
}

}  // namespace guideway

#include "control/plan.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "control/api/api.pb.h"
#include "control/config/render_yaml.h"
#include "control/config/scalars.h"
#include "maglev/schedulers.h"

namespace guideway {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// --- Settings ------------------------------------------------------------------------------------

// Every key that is set, as a path, and its value as in the file; in the schema's order.
class Settings {
 public:
  // Without the keys named.
  Settings(const Message& message, std::vector<absl::string_view> without) {
    Walk(message, "", without);
  }

  // What differs from these settings in `after`.
  void Compare(const Settings& after,
               google::protobuf::RepeatedPtrField<api::Change>* changes) const {
    for (const auto& [key, text] : values_) {
      const std::string* now = after.Find(key);
      if (now == nullptr || *now != text) Add(changes, key, text, now == nullptr ? "" : *now);
    }
    for (const auto& [key, text] : after.values_) {
      if (Find(key) == nullptr) Add(changes, key, "", text);
    }
  }

 private:
  static constexpr int kItemsShown = 8;

  static void Add(google::protobuf::RepeatedPtrField<api::Change>* changes, const std::string& key,
                  const std::string& from, const std::string& to) {
    api::Change* change = changes->Add();
    change->set_key(key);
    change->set_from(from);
    change->set_to(to);
  }

  const std::string* Find(const std::string& key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &values_[found->second].second;
  }

  void Set(std::string key, std::string text) {
    index_.emplace(key, values_.size());
    values_.emplace_back(std::move(key), std::move(text));
  }

  void Walk(const Message& message, const std::string& path,
            const std::vector<absl::string_view>& without) {
    std::vector<const FieldDescriptor*> fields;
    message.GetReflection()->ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      if (std::find(without.begin(), without.end(), absl::string_view(field->name())) !=
          without.end()) {
        continue;
      }
      const std::string key = path.empty() ? field->name() : absl::StrCat(path, ".", field->name());
      const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                              !IsDuration(field->message_type());
      if (!is_message) {
        Set(key, Text(message, field));
      } else if (field->is_repeated()) {
        Items(message, field, key);
      } else {
        const Message& inside = message.GetReflection()->GetMessage(message, field);
        // A choice without settings is all there is to say: «forwarding.ipip».
        if (inside.ByteSizeLong() == 0) Set(key, "{}");
        Walk(inside, key, {});
      }
    }
  }

  // Items of a list are known by their names; those without, by their places.
  void Items(const Message& message, const FieldDescriptor* field, const std::string& key) {
    const Reflection* reflection = message.GetReflection();
    const FieldDescriptor* name = field->message_type()->FindFieldByName("name");
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      const Message& item = reflection->GetRepeatedMessage(message, field, i);
      const std::string which =
          name != nullptr ? item.GetReflection()->GetString(item, name) : absl::StrCat(i + 1);
      Walk(item, absl::StrCat(key, "[", which, "]"), {});
    }
  }

  // A scalar, or a list of them, as the file would have it.
  static std::string Text(const Message& message, const FieldDescriptor* field) {
    const Reflection* reflection = message.GetReflection();
    if (field->is_repeated()) {
      const int size = reflection->FieldSize(message, field);
      std::vector<std::string> items;
      for (int i = 0; i < std::min(size, kItemsShown); ++i) {
        items.push_back(field->cpp_type() == FieldDescriptor::CPPTYPE_STRING
                            ? reflection->GetRepeatedString(message, field, i)
                            : absl::StrCat(reflection->GetRepeatedUInt32(message, field, i)));
      }
      // Two long lists that differ further behind have to look different.
      if (size > kItemsShown) {
        items.push_back(absl::StrCat("and ", size - kItemsShown, " more (",
                                     absl::Hex(Fingerprint(message, field)), ")"));
      }
      return absl::StrCat("[", absl::StrJoin(items, ", "), "]");
    }
    const std::unique_ptr<Message> alone(message.New());
    alone->CopyFrom(message);
    std::vector<const FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (const FieldDescriptor* other : fields) {
      if (other != field) reflection->ClearField(alone.get(), other);
    }
    std::string yaml;
    for (absl::string_view line : absl::StrSplit(RenderYaml(*alone), '\n', absl::SkipEmpty())) {
      if (absl::ConsumePrefix(&line, absl::StrCat(field->name(), ": "))) yaml = std::string(line);
    }
    return yaml;
  }

  static uint32_t Fingerprint(const Message& message, const FieldDescriptor* field) {
    uint32_t sum = 2166136261;
    const Reflection* reflection = message.GetReflection();
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) break;
      for (const char c : reflection->GetRepeatedString(message, field, i)) {
        sum = (sum ^ static_cast<uint8_t>(c)) * 16777619;
      }
      sum *= 16777619;
    }
    return sum;
  }

  std::vector<std::pair<std::string, std::string>> values_;
  absl::flat_hash_map<std::string, size_t> index_;
};

void Compare(const Message& before, const Message& after, std::vector<absl::string_view> without,
             google::protobuf::RepeatedPtrField<api::Change>* changes) {
  Settings(before, without).Compare(Settings(after, without), changes);
}

// --- Who moves -----------------------------------------------------------------------------------

// The backends of two services as numbers: the same machine under the same name is the same number.
class Identities {
 public:
  static constexpr int kNobody = -1;

  std::vector<int> Of(const Service& service) {
    std::vector<int> ids;
    for (const Backend& backend : service.backends) {
      const auto next = static_cast<int>(known_.size());
      ids.push_back(known_.emplace(std::pair(backend.name, backend.address), next).first->second);
    }
    return ids;
  }

 private:
  std::map<std::pair<std::string, IpAddress>, int> known_;
};

// By identity; kNobody's is not among them.
using Shares = std::vector<double>;
double ShareOf(const Shares& shares, size_t id) { return id < shares.size() ? shares[id] : 0; }

// What a client in this region gets: the slots of the table that serves it.
class SlotsOf {
 public:
  SlotsOf(const Service& service, size_t region, const std::vector<int>& ids)
      : pool_(service.pools[service.pools[region].stand_in]), ids_(ids) {}

  uint32_t size() const { return pool_.table->size(); }
  int operator[](uint32_t slot) const {
    const LookupTable::Member member = (*pool_.assignment)[slot];
    return member == LookupTable::kNoMember ? Identities::kNobody : ids_[pool_.first + member];
  }
  Shares shares() const {
    std::vector<uint32_t> slots;  // how many each has
    for (uint32_t slot = 0; slot < size(); ++slot) {
      const int id = (*this)[slot];
      if (id == Identities::kNobody) continue;
      if (static_cast<size_t>(id) >= slots.size()) slots.resize(id + 1);
      ++slots[id];
    }
    Shares shares;
    for (const uint32_t n : slots) shares.push_back(static_cast<double>(n) / size());
    return shares;
  }

 private:
  const Pool& pool_;
  const std::vector<int>& ids_;
};

// The part of all hashes for which somebody served before, and it is another, or nobody, now.
double MovedOf(const SlotsOf& before, const SlotsOf& after) {
  const uint64_t a = before.size(), b = after.size();
  // A hash is a place between 0 and 1; in units of 1/(a·b) slots begin at multiples of b and of a.
  uint64_t moved = 0, from = 0;
  for (uint64_t i = 0, j = 0; i < a && j < b;) {
    const uint64_t end = std::min((i + 1) * b, (j + 1) * a);
    const int was = before[static_cast<uint32_t>(i)];
    if (was != Identities::kNobody && was != after[static_cast<uint32_t>(j)]) moved += end - from;
    from = end;
    if (end == (i + 1) * b) ++i;
    if (end == (j + 1) * a) ++j;
  }
  return static_cast<double>(moved) / (static_cast<double>(a) * static_cast<double>(b));
}

// The same where every connection is hashed anew: it stays by chance.
double MovedByChance(const Shares& before, const Shares& after) {
  double served = 0, stays = 0;
  for (size_t id = 0; id < before.size(); ++id) {
    served += before[id];
    stays += before[id] * ShareOf(after, id);
  }
  return served - stays;
}

double MovedAtLeast(const Shares& before, const Shares& after) {
  double lost = 0;
  for (size_t id = 0; id < before.size(); ++id) {
    lost += std::max(0.0, before[id] - ShareOf(after, id));
  }
  return lost;
}

size_t RegionNamed(const Service& service, const std::string& name) {
  for (size_t i = 0; i < service.pools.size(); ++i) {
    if (service.pools[i].region == name) return i;
  }
  return service.default_region;
}

Shares ByConnection(const Service& service, const std::vector<int>& ids) {
  Shares shares;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto id = static_cast<size_t>(ids[i]);
    if (id >= shares.size()) shares.resize(id + 1);
    shares[id] += service.connection_shares[i];
  }
  return shares;
}

// Fills in what moves of a service that is on both sides.
void FillMoved(const Service& before, const Service& after, bool new_seed, api::ServicePlan* plan) {
  if (&before == &after && !new_seed) return;  // one that Compile has shared
  Identities identities;
  const std::vector<int> was = identities.Of(before), is = identities.Of(after);
  const bool by_table = ChoosesByTable(after.scheduler);
  if (!by_table || !ChoosesByTable(before.scheduler)) {
    const Shares shares_before = ByConnection(before, was), shares_after = ByConnection(after, is);
    plan->set_moved_necessary(MovedAtLeast(shares_before, shares_after));
    plan->set_moved(before.scheduler == after.scheduler
                        ? plan->moved_necessary()
                        : MovedByChance(shares_before, shares_after));
    if (before.scheduler != after.scheduler) plan->add_notes("the scheduler is another one");
    return;
  }
  const bool rehashed = new_seed || before.affinity != after.affinity;
  if (before.affinity != after.affinity) {
    plan->add_notes("another affinity: about everything moves, once");
  }
  if (before.pools[0].table->size() != after.pools[0].table->size()) {
    plan->add_notes(absl::StrCat("another table size (", before.pools[0].table->size(), ", now ",
                                 after.pools[0].table->size(), "): about everything moves, once"));
  }
  const double regions = static_cast<double>(after.pools.size());
  for (size_t i = 0; i < after.pools.size(); ++i) {
    const SlotsOf slots_before(before, RegionNamed(before, after.pools[i].region), was);
    const SlotsOf slots_after(after, i, is);
    const Shares shares_before = slots_before.shares(), shares_after = slots_after.shares();
    const double moved =
        rehashed ? MovedByChance(shares_before, shares_after) : MovedOf(slots_before, slots_after);
    plan->set_moved(plan->moved() + moved / regions);
    plan->set_moved_necessary(plan->moved_necessary() +
                              MovedAtLeast(shares_before, shares_after) / regions);
  }
  if (regions > 1 && plan->moved() > 0)
    plan->add_notes("of clients that are spread evenly over the regions");
}

// --- Services ------------------------------------------------------------------------------------

api::BackendPlan* AddBackend(const std::string& name, const char* change, uint64_t open,
                             api::ServicePlan* plan) {
  api::BackendPlan* backend = plan->add_backends();
  backend->set_name(name);
  backend->set_change(change);
  backend->set_open_connections(open);
  plan->set_open_connections(plan->open_connections() + open);
  return backend;
}

void CompareBackends(const config::Service& before, const config::Service& after,
                     const Service& compiled, OpenConnections open, api::ServicePlan* plan) {
  absl::flat_hash_map<std::string, const config::Backend*> was;
  absl::flat_hash_map<std::string, BackendId> ids;
  for (const config::Backend& backend : before.backends()) was[backend.name()] = &backend;
  for (const Backend& backend : compiled.backends) ids[backend.name] = backend.id;
  for (const config::Backend& backend : after.backends()) {
    const auto found = was.find(backend.name());
    if (found == was.end()) {
      AddBackend(backend.name(), "added", 0, plan);
      continue;
    }
    google::protobuf::RepeatedPtrField<api::Change> changes;
    Compare(*found->second, backend, {"name"}, &changes);
    if (!changes.empty()) {
      const bool is_another = found->second->address() != backend.address();
      AddBackend(backend.name(), "changed", is_another ? open(ids[backend.name()]) : 0, plan)
          ->mutable_settings()
          ->Swap(&changes);
    }
    was.erase(found);
  }
  for (const config::Backend& backend : before.backends()) {
    if (was.contains(backend.name())) {
      AddBackend(backend.name(), "removed", open(ids[backend.name()]), plan);
    }
  }
}

}  // namespace

std::vector<std::string> FixedKeysThatDiffer(const config::Config& before,
                                             const config::Config& after, bool new_seed) {
  std::vector<std::string> keys;
  if (before.interfaces_size() != after.interfaces_size()) {
    keys.push_back("interfaces");
  } else {
    for (int i = 0; i < before.interfaces_size(); ++i) {
      if (before.interfaces(i).SerializeAsString() != after.interfaces(i).SerializeAsString()) {
        keys.push_back(absl::StrCat("interfaces (", after.interfaces(i).name(), ")"));
      }
    }
  }
  const config::Dataplane& a = before.dataplane();
  const config::Dataplane& b = after.dataplane();
  if (!std::equal(a.workers().begin(), a.workers().end(), b.workers().begin(), b.workers().end())) {
    keys.push_back("dataplane.workers");
  }
  if (a.has_idle() != b.has_idle() || a.idle() != b.idle()) keys.push_back("dataplane.idle");
  if (a.hugepages() != b.hugepages()) keys.push_back("dataplane.hugepages");
  if (a.flows_per_worker() != b.flows_per_worker()) keys.push_back("dataplane.flows_per_worker");
  if (before.control().socket() != after.control().socket()) keys.push_back("control.socket");
  if (before.control().http() != after.control().http()) keys.push_back("control.http");
  if (before.control().group() != after.control().group()) keys.push_back("control.group");
  if (before.control().readers() != after.control().readers()) keys.push_back("control.readers");
  if (new_seed) {
    keys.push_back(after.fleet().has_hash_seed_file() ? "the number in fleet.hash_seed_file"
                                                      : "fleet.hash_seed");
  }
  return keys;
}

api::Plan MakePlan(const PlanSide& before, const PlanSide& after, OpenConnections open) {
  api::Plan plan;
  Compare(*before.config, *after.config, {"services"}, plan.mutable_settings());
  const bool new_seed = before.snapshot->hash_seed() != after.snapshot->hash_seed();
  if (new_seed) {
    plan.add_notes(
        "another hash seed: about everything moves, and no open connection finds its entry");
  }
  for (std::string& key : FixedKeysThatDiffer(*before.config, *after.config, new_seed)) {
    plan.add_needs_restart(std::move(key));
  }
  absl::flat_hash_map<std::string, int> was;
  for (int i = 0; i < before.config->services_size(); ++i) {
    was[before.config->services(i).name()] = i;
  }
  for (int i = 0; i < after.config->services_size(); ++i) {
    const config::Service& service = after.config->services(i);
    api::ServicePlan* one = plan.add_services();
    one->set_name(service.name());
    const auto found = was.find(service.name());
    if (found == was.end()) {
      one->set_change("added");
      for (const config::Backend& backend : service.backends()) {
        AddBackend(backend.name(), "added", 0, one);
      }
      continue;
    }
    const config::Service& old = before.config->services(found->second);
    const Service& compiled = *before.snapshot->services()[found->second];
    Compare(old, service, {"name", "backends"}, one->mutable_settings());
    CompareBackends(old, service, compiled, open, one);
    FillMoved(compiled, *after.snapshot->services()[i], new_seed, one);
    // Weights and drains by hand move connections, too, and are not in the file.
    constexpr double kNothing = 1e-9;
    const bool is_same = one->settings().empty() && one->backends().empty();
    if (is_same && one->moved() > kNothing) one->add_notes("weights or drains by hand change");
    one->set_change(is_same && one->moved() <= kNothing ? "unchanged" : "changed");
    was.erase(found);
  }
  for (int i = 0; i < before.config->services_size(); ++i) {
    const config::Service& service = before.config->services(i);
    if (!was.contains(service.name())) continue;
    api::ServicePlan* one = plan.add_services();
    one->set_name(service.name());
    one->set_change("removed");
    for (const Backend& backend : before.snapshot->services()[i]->backends) {
      AddBackend(backend.name, "removed", open(backend.id), one);
    }
  }
  plan.set_changes(!plan.settings().empty() || new_seed);
  for (const api::ServicePlan& service : plan.services()) {
    if (service.change() != "unchanged") plan.set_changes(true);
    plan.set_moved(std::max(plan.moved(), service.moved()));
    plan.set_open_connections(plan.open_connections() + service.open_connections());
  }
  return plan;
}

}  // namespace guideway

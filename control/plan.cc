#include "control/plan.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "control/address_parts.h"
#include "control/api/api.pb.h"
#include "control/config/config_values.h"
#include "control/config/files.h"
#include "control/config/named_files.h"
#include "control/config/render_yaml.h"
#include "control/config/scalars.h"
#include "maglev/schedulers.h"

namespace guideway {
namespace {

// Shares below are 0 but for rounding.
constexpr double kNothing = 1e-9;

// Of sums of shares that should be 1.
constexpr double kRounding = 1e-12;

// As the command line shows shares: 9.1%, 100%.
std::string PercentText(double share) {
  if (share > 0 && share < 0.001) return "<0.1%";
  if (share >= 1 - kRounding) return "100%";
  return share >= 0.9995 ? ">99.9%" : absl::StrFormat("%.1f%%", share * 100);
}

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
      std::string text;
      google::protobuf::TextFormat::PrintFieldValueToString(message, field, i, &text);
      for (const char c : text) sum = (sum ^ static_cast<uint8_t>(c)) * 16777619;
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

// --- Files that are named ------------------------------------------------------------------------

// The file that is named `path`; «» if this side has no such.
const std::string& ContentsOf(const PlanSide& side, const std::string& path) {
  static const std::string* const kEmpty = new std::string();
  const auto found = side.files->find(ResolvePath(side.home, path));
  return found == side.files->end() ? *kEmpty : found->second;
}

using Paths = google::protobuf::RepeatedPtrField<std::string>;

bool IsNamed(const Paths& paths, const std::string& path) {
  return std::find(paths.begin(), paths.end(), path) != paths.end();
}

// The prefixes of a list, sorted.
std::vector<Prefix> SortedPrefixes(absl::string_view list) {
  std::vector<Prefix> prefixes = PrefixesIn(list);
  std::sort(prefixes.begin(), prefixes.end());
  prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
  return prefixes;
}

// «1 prefix», «2 prefixes»
std::string Prefixes(size_t n) { return absl::StrCat(n, n == 1 ? " prefix" : " prefixes"); }

void CompareLists(const PlanSide& before, const Paths& paths_before, const PlanSide& after,
                  const Paths& paths_after, absl::string_view key, api::Plan* plan) {
  std::vector<std::string> paths(paths_after.begin(), paths_after.end());
  for (const std::string& path : paths_before) {
    if (!IsNamed(paths_after, path)) paths.push_back(path);
  }
  for (const std::string& path : paths) {
    const absl::string_view text_before =
        IsNamed(paths_before, path) ? absl::string_view(ContentsOf(before, path)) : "";
    const absl::string_view text_after =
        IsNamed(paths_after, path) ? absl::string_view(ContentsOf(after, path)) : "";
    if (text_before == text_after) continue;
    const std::vector<Prefix> was = SortedPrefixes(text_before), is = SortedPrefixes(text_after);
    std::vector<Prefix> added, removed;
    std::set_difference(is.begin(), is.end(), was.begin(), was.end(), std::back_inserter(added));
    std::set_difference(was.begin(), was.end(), is.begin(), is.end(), std::back_inserter(removed));
    if (added.empty() && removed.empty()) continue;
    api::Change* change = plan->add_settings();
    change->set_key(absl::StrCat("access.", key, "[", path, "]"));
    change->set_prefixes_added(static_cast<uint32_t>(added.size()));
    change->set_prefixes_removed(static_cast<uint32_t>(removed.size()));
    change->set_contents(removed.empty() ? absl::StrCat(Prefixes(added.size()), " added")
                         : added.empty() ? absl::StrCat(Prefixes(removed.size()), " removed")
                                         : absl::StrCat(Prefixes(added.size()), " added, ",
                                                        removed.size(), " removed"));
  }
}

// The keys of QUIC connection ids. Their files may be written in more ways than one.
void CompareKeys(const PlanSide& before, const config::Service& service_before,
                 const PlanSide& after, const config::Service& service_after,
                 api::ServicePlan* plan) {
  const auto key = [](const PlanSide& side, const config::QuicConfig& quic) {
    return absl::AsciiStrToLower(absl::StripAsciiWhitespace(ContentsOf(side, quic.key_file())));
  };
  bool differ = false;
  const int both =
      std::min(service_before.quic().configs_size(), service_after.quic().configs_size());
  for (int i = 0; i < both; ++i) {
    const config::QuicConfig& was = service_before.quic().configs(i);
    const config::QuicConfig& is = service_after.quic().configs(i);
    if (!was.has_key_file() || !is.has_key_file() || key(before, was) == key(after, is)) continue;
    api::Change* change = plan->add_settings();
    change->set_key(absl::StrCat("quic.configs[", i + 1, "].key_file"));
    change->set_contents("another key");
    differ = true;
  }
  if (differ) {
    plan->add_notes(
        "another QUIC key: ids that servers made with the one before say nothing any more, so "
        "those connections are known by the flow tables alone");
  }
}

// --- Who is asked how it is ---------------------------------------------------------------------

// What a health check asks, without how often and what becomes of the answers.
std::string QuestionOf(const config::Service& service, const config::Backend& backend) {
  config::HealthCheck check = service.health_check();
  check.clear_interval();
  check.clear_timeout();
  check.clear_rise();
  check.clear_fall();
  check.clear_flap_damping();
  return absl::StrCat(ProbePort(service, backend).value_or(0), " ", check.SerializeAsString());
}

// Health is what backends answered, so it is not known of a question that nobody asked yet.
void CompareQuestions(const config::Service& before, const config::Service& after,
                      api::ServicePlan* plan) {
  if (!after.has_health_check()) {
    if (before.has_health_check()) {
      plan->add_notes("there is no health check any more: whoever is down counts as up");
    }
    return;
  }
  absl::flat_hash_map<std::string, const config::Backend*> was;
  for (const config::Backend& backend : before.backends()) was[backend.name()] = &backend;
  const bool are_others = std::any_of(
      after.backends().begin(), after.backends().end(), [&](const config::Backend& backend) {
        const auto found = was.find(backend.name());
        return found != was.end() && IsSameServer(before, *found->second, after, backend) &&
               (!before.has_health_check() ||
                QuestionOf(before, *found->second) != QuestionOf(after, backend));
      });
  if (!are_others) return;
  plan->add_notes(
      absl::StrCat(before.has_health_check() ? "the health check asks something else"
                                             : "there is a health check now",
                   ": backends keep the health that they have until they have answered it, and "
                   "what moves then is not known"));
}

// --- Who may send --------------------------------------------------------------------------------

// `access` and its files, as ForEachAddressPart wants them.
struct AccessLists {
  explicit AccessLists(const PlanSide& side) {
    const config::Access& access = side.config->access();
    Add(side, access.deny(), access.deny_files());
    denied = prefixes.size();
    Add(side, access.allow(), access.allow_files());
  }

  bool IsDenied(std::optional<size_t> prefix) const { return prefix && *prefix < denied; }

  std::vector<Prefix> prefixes;
  size_t denied;  // the first so many; of equal ones the last counts

 private:
  void Add(const PlanSide& side, const Paths& list, const Paths& paths) {
    for (const std::string& text : list) prefixes.push_back(Prefix::Parse(text).value());
    if (side.files == nullptr) return;
    for (const std::string& path : paths) {
      const std::vector<Prefix> more = PrefixesIn(ContentsOf(side, path));
      prefixes.insert(prefixes.end(), more.begin(), more.end());
    }
  }
};

// «16777216 of all IPv4 addresses»
std::string AddressesText(double share, bool is_v4) {
  return is_v4 ? absl::StrFormat("%.0f of all IPv4 addresses", share * std::ldexp(1, 32))
               : absl::StrFormat("%.3g%% of all IPv6 addresses", share * 100);
}

// Who is denied from now on, and who is not any longer.
void CompareAccess(const PlanSide& before, const PlanSide& after, api::Plan* plan) {
  const AccessLists was(before), is(after);
  std::array<double, 2> denied = {}, freed = {};  // of IPv6, of IPv4
  ForEachAddressPart(was.prefixes, is.prefixes, [&](const AddressPart& part) {
    const bool was_denied = was.IsDenied(part.before), is_denied = is.IsDenied(part.after);
    if (is_denied && !was_denied) denied[part.is_v4 ? 1 : 0] += part.size;
    if (was_denied && !is_denied) freed[part.is_v4 ? 1 : 0] += part.size;
  });
  plan->set_newly_denied_ipv4(denied[1]);
  plan->set_newly_denied_ipv6(denied[0]);
  for (const bool is_v4 : {true, false}) {
    if (denied[is_v4] > 0) {
      plan->add_notes(
          absl::StrCat("access: ", AddressesText(denied[is_v4], is_v4),
                       " are denied that were not: what they send to any VIP is dropped, "
                       "of open connections, too"));
    }
    if (freed[is_v4] > 0) {
      plan->add_notes(absl::StrCat("access: ", AddressesText(freed[is_v4], is_v4),
                                   " are not denied any longer"));
    }
  }
}

void CompareAccessAndFiles(const PlanSide& before, const PlanSide& after, api::Plan* plan) {
  const config::Access& was = before.config->access();
  const config::Access& is = after.config->access();
  const int settings = plan->settings_size();
  if (before.files != nullptr && after.files != nullptr) {
    CompareLists(before, was.allow_files(), after, is.allow_files(), "allow_files", plan);
    CompareLists(before, was.deny_files(), after, is.deny_files(), "deny_files", plan);
  }
  if (plan->settings_size() > settings || was.SerializeAsString() != is.SerializeAsString()) {
    CompareAccess(before, after, plan);
  }
}

// --- Who moves -----------------------------------------------------------------------------------

using NameSet = absl::flat_hash_set<std::string>;

// The backends of a service on both sides as numbers. Those of `others` have the same name on both
// and are other servers.
class Identities {
 public:
  static constexpr int kNobody = -1;

  std::vector<int> OfBefore(const Service& service) { return Of(service, {}); }
  std::vector<int> OfAfter(const Service& service, const NameSet& others) {
    return Of(service, others);
  }

 private:
  std::vector<int> Of(const Service& service, const NameSet& others) {
    std::vector<int> ids;
    for (const Backend& backend : service.backends) {
      ids.push_back(others.contains(backend.name)
                        ? next_++
                        : known_.emplace(backend.name, next_).first->second);
      next_ = std::max(next_, ids.back() + 1);
    }
    return ids;
  }

  absl::flat_hash_map<std::string, int> known_;
  int next_ = 0;
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

// The regions of a service, as ForEachAddressPart wants them.
struct RegionLists {
  RegionLists(const config::Service& config, const Service& service)
      : default_region(service.default_region) {
    if (service.pools.size() < 2) return;
    for (int i = 0; i < config.regions_size(); ++i) {
      for (const std::string& text : config.regions(i).prefixes()) {
        prefixes.push_back(Prefix::Parse(text).value());
        regions.push_back(static_cast<size_t>(i));
      }
    }
  }

  size_t Of(std::optional<size_t> prefix) const {
    return prefix ? regions[*prefix] : default_region;
  }

  std::vector<Prefix> prefixes;
  std::vector<size_t> regions;  // of each prefix the index of its pool
  size_t default_region;
};

// The regions, before and after, that a client may be in.
std::set<std::pair<size_t, size_t>> RegionsOfClients(const config::Service& config_before,
                                                     const Service& before,
                                                     const config::Service& config_after,
                                                     const Service& after) {
  const RegionLists was(config_before, before), is(config_after, after);
  std::set<std::pair<size_t, size_t>> pairs;
  ForEachAddressPart(was.prefixes, is.prefixes, [&](const AddressPart& part) {
    const bool has_vip =
        std::any_of(before.vips.begin(), before.vips.end(),
                    [&](const Prefix& vip) { return vip.address.is_v4() == part.is_v4; });
    if (has_vip) pairs.emplace(was.Of(part.before), is.Of(part.after));
  });
  return pairs;
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

// A service that is on both sides.
struct ServicePair {
  const config::Service& config_before;
  const Service& before;
  const config::Service& config_after;
  const Service& after;
};

// Fills in what of its clients' connections goes to another backend. `others` as for Identities.
void FillMoved(const ServicePair& pair, const NameSet& others, bool new_seed,
               api::ServicePlan* plan) {
  const Service &before = pair.before, &after = pair.after;
  if (&before == &after && !new_seed) return;  // one that Compile has shared
  Identities identities;
  const std::vector<int> was = identities.OfBefore(before), is = identities.OfAfter(after, others);
  const bool by_table = ChoosesByTable(after.scheduler);
  if (!by_table || !ChoosesByTable(before.scheduler)) {
    const Shares shares_before = ByConnection(before, was), shares_after = ByConnection(after, is);
    plan->set_moved_necessary(MovedAtLeast(shares_before, shares_after));
    plan->set_moved(before.scheduler == after.scheduler
                        ? plan->moved_necessary()
                        : MovedByChance(shares_before, shares_after));
    if (before.scheduler != after.scheduler) plan->add_notes("the scheduler is another one");
    plan->set_moved_at_most(plan->moved());
    return;
  }
  const bool rehashed = new_seed || before.affinity != after.affinity;
  if (before.affinity != after.affinity) {
    plan->add_notes("another affinity: about everything moves, once; what stays does so by chance");
  }
  if (before.pools[0].table->size() != after.pools[0].table->size()) {
    plan->add_notes(absl::StrCat("another table size (", before.pools[0].table->size(), ", now ",
                                 after.pools[0].table->size(),
                                 "): about everything moves, once; what stays does so by chance"));
  }
  const auto regions = RegionsOfClients(pair.config_before, before, pair.config_after, after);
  const double count = static_cast<double>(regions.size());
  std::vector<std::string> change_region;
  for (const auto& [region_before, region_after] : regions) {
    const SlotsOf slots_before(before, region_before, was);
    const SlotsOf slots_after(after, region_after, is);
    const Shares shares_before = slots_before.shares(), shares_after = slots_after.shares();
    const double moved =
        rehashed ? MovedByChance(shares_before, shares_after) : MovedOf(slots_before, slots_after);
    plan->set_moved(plan->moved() + moved / count);
    plan->set_moved_necessary(plan->moved_necessary() +
                              MovedAtLeast(shares_before, shares_after) / count);
    plan->set_moved_at_most(std::max(plan->moved_at_most(), moved));
    const std::string& from = before.pools[region_before].region;
    const std::string& to = after.pools[region_after].region;
    if (from != to && before.scheduler == after.scheduler) {
      change_region.push_back(absl::StrCat("from ", from, " to ", to));
    }
  }
  if (!change_region.empty()) {
    plan->add_notes(
        absl::StrCat("clients change their region: ", absl::StrJoin(change_region, ", ")));
  }
  if (regions.size() > 1 && plan->moved() > 0) {
    plan->add_notes(absl::StrCat(
        "of clients that are spread evenly over the regions; how many are in which cannot be told, "
        "and of some up to ",
        PercentText(plan->moved_at_most()), " of new connections move"));
  }
}

// Which VIPs' addresses are whose, on both sides. The longest prefix that any service has decides.
class VipOwners {
 public:
  VipOwners(const Snapshot& before, const Snapshot& after) {
    const std::vector<Prefix> was = AllVips(before), is = AllVips(after);
    ForEachAddressPart(was, is, [&](const AddressPart& part) {
      if (!part.before) return;
      parts_[was[*part.before]].push_back(
          {part.after ? std::optional(is[*part.after]) : std::nullopt, part.size});
    });
  }

  // The part of VIPs of a service whose packets still come to it, each VIP counting the same.
  double PartKept(const std::vector<Prefix>& before, const std::vector<Prefix>& after) const {
    const absl::flat_hash_set<Prefix> is(after.begin(), after.end());
    return PartOf(before, [&](const Prefix& owner) { return is.contains(owner); }).value_or(1);
  }

  // The same of those whose packets come to any service; nothing if none came to this one.
  std::optional<double> PartOwned(const std::vector<Prefix>& before) const {
    return PartOf(before, [](const Prefix&) { return true; });
  }

 private:
  struct Part {
    std::optional<Prefix> owner;
    double size;
  };

  template <typename Counts>
  std::optional<double> PartOf(const std::vector<Prefix>& before, Counts counts) const {
    double part = 0;
    size_t vips = 0;
    for (const Prefix& vip : before) {
      const auto parts = parts_.find(vip);
      if (parts == parts_.end()) continue;  // nothing of it is its own: longer ones fill it
      double all = 0, counted = 0;
      for (const auto& [owner, size] : parts->second) {
        all += size;
        if (owner && counts(*owner)) counted += size;
      }
      part += counted / all;
      ++vips;
    }
    if (vips == 0) return std::nullopt;
    return part / static_cast<double>(vips);
  }

  static std::vector<Prefix> AllVips(const Snapshot& snapshot) {
    std::set<Prefix> vips;
    for (const auto& service : snapshot.services()) {
      vips.insert(service->vips.begin(), service->vips.end());
    }
    return {vips.begin(), vips.end()};
  }

  absl::flat_hash_map<Prefix, std::vector<Part>> parts_;  // by VIP before
};

// The same of ports.
double PartOfPorts(const Service& before, const Service& after) {
  if (after.protocol == Protocol::kAny) return 1;
  if (before.protocol != after.protocol) return 0;
  std::bitset<65536> served;
  for (const PortRange& range : after.ports) {
    for (uint32_t port = range.first; port <= range.last; ++port) served.set(port);
  }
  double kept = 0;
  for (const PortRange& range : before.ports) {
    uint32_t still = 0;
    for (uint32_t port = range.first; port <= range.last; ++port) still += served[port] ? 1 : 0;
    kept += static_cast<double>(still) / (range.last - range.first + 1);
  }
  return before.ports.empty() ? 1 : kept / static_cast<double>(before.ports.size());
}

// Adds to what moves of a service that is on both sides: what comes to VIPs and ports that are its
// own no more.
void FillNotServed(const Service& before, const Service& after, const VipOwners& owners,
                   OpenConnections open, api::ServicePlan* plan) {
  const double kept = owners.PartKept(before.vips, after.vips) * PartOfPorts(before, after);
  if (kept > 1 - kNothing) return;
  plan->set_not_served(1 - kept);
  for (const auto& [get, set] :
       {std::pair(&api::ServicePlan::moved, &api::ServicePlan::set_moved),
        std::pair(&api::ServicePlan::moved_necessary, &api::ServicePlan::set_moved_necessary),
        std::pair(&api::ServicePlan::moved_at_most, &api::ServicePlan::set_moved_at_most)}) {
    (plan->*set)(1 - kept * (1 - (plan->*get)()));
  }
  uint64_t all_open = 0;
  for (const Backend& backend : before.backends) all_open += open(backend.id);
  std::string note =
      absl::StrCat("VIPs or ports are taken out, or another service takes them: ",
                   PercentText(plan->not_served()),
                   " of new connections, if all of them have as many, are not this service's any "
                   "more");
  if (kept < kNothing) {
    plan->set_open_connections(all_open);
  } else if (all_open > 0) {
    absl::StrAppend(&note, "; of its ", all_open,
                    " open connections those to them are cut, how many cannot be told");
  }
  plan->add_notes(std::move(note));
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

// Returns the names of those that are other servers now.
NameSet CompareBackends(const config::Service& before, const config::Service& after,
                        const Service& compiled, OpenConnections open, api::ServicePlan* plan) {
  NameSet others;
  absl::flat_hash_map<std::string, const config::Backend*> was;
  absl::flat_hash_map<std::string, const Backend*> compiled_was;
  for (const config::Backend& backend : before.backends()) was[backend.name()] = &backend;
  for (const Backend& backend : compiled.backends) compiled_was[backend.name] = &backend;
  const auto add_leaving = [&](const std::string& name, const char* change) {
    const Backend& backend = *compiled_was[name];
    api::BackendPlan* one = AddBackend(name, change, open(backend.id), plan);
    one->set_takes_none(backend.state != BackendState::kUp || backend.weight == 0);
    return one;
  };
  for (const config::Backend& backend : after.backends()) {
    const auto found = was.find(backend.name());
    if (found == was.end()) {
      AddBackend(backend.name(), "added", 0, plan)->set_presumed_up(after.has_health_check());
      continue;
    }
    google::protobuf::RepeatedPtrField<api::Change> changes;
    Compare(*found->second, backend, {"name"}, &changes);
    const bool is_another = !IsSameServer(before, *found->second, after, backend);
    if (is_another) others.insert(backend.name());
    if (is_another || !changes.empty()) {
      api::BackendPlan* one = is_another ? add_leaving(backend.name(), "changed")
                                         : AddBackend(backend.name(), "changed", 0, plan);
      one->set_presumed_up(is_another && after.has_health_check());
      one->mutable_settings()->Swap(&changes);
    }
    was.erase(found);
  }
  for (const config::Backend& backend : before.backends()) {
    if (was.contains(backend.name())) add_leaving(backend.name(), "removed");
  }
  return others;
}

// Who takes no new connections has its weight in the table all the same, for its return to move
// nobody else's: so another weight, or none, moves others' now.
void NoteWeights(const Service& before, const Service& after, api::ServicePlan* plan) {
  const bool one_table = ChoosesByTable(before.scheduler) && ChoosesByTable(after.scheduler) &&
                         before.pools.size() == 1 && after.pools.size() == 1;
  if (!one_table || plan->moved() <= plan->moved_necessary() + kNothing) return;
  absl::flat_hash_map<std::string, const Backend*> is;
  for (const Backend& backend : after.backends) is[backend.name] = &backend;
  for (const Backend& was : before.backends) {
    if (was.state == BackendState::kUp) continue;
    const auto found = is.find(was.name);
    const bool leaves = found == is.end();
    if (leaves ? was.weight == 0
               : found->second->weight == was.weight || found->second->state == BackendState::kUp) {
      continue;
    }
    plan->add_notes(absl::StrCat(
        was.name, " takes no new connections, but its weight counts in the table all the same: ",
        leaves ? "without it others' move" : "another weight moves others'"));
  }
}

// Who takes a service's new connections.
void FillShares(const Service& service, api::ServicePlan* plan) {
  for (size_t p = 0; p < service.pools.size(); ++p) {
    const Pool& pool = service.pools[p];
    const size_t end =
        p + 1 < service.pools.size() ? service.pools[p + 1].first : service.backends.size();
    for (size_t b = pool.first; b < end; ++b) {
      if (service.connection_shares[b] <= 0) continue;
      api::BackendShare* share = plan->add_shares();
      share->set_name(service.backends[b].name);
      share->set_region(pool.region);
      share->set_share(service.connection_shares[b]);
    }
  }
  plan->set_new_connections_dropped(plan->shares().empty());
  FillRegions(service, plan->mutable_regions());
}

// What becomes of those who come to a service that is gone.
std::string NoteOfRemoved(const Service& service, const VipOwners& owners) {
  constexpr char kOwned[] =
      "other services have %s VIPs, take what comes to their ports and drop the rest";
  constexpr char kPunted[] = "what comes to %s is punted, which in this version is its end";
  const std::optional<double> owned = owners.PartOwned(service.vips);
  if (!owned) return "no packet came to it: other services have longer prefixes for its VIPs";
  return absl::StrCat("100% of its new connections are not its own any more: ",
                      *owned < kNothing ? absl::StrFormat(kPunted, "its VIPs")
                      : *owned > 1 - kNothing
                          ? absl::StrFormat(kOwned, "its")
                          : absl::StrCat(absl::StrFormat(kOwned, "some of its"), "; ",
                                         absl::StrFormat(kPunted, "the others")));
}

}  // namespace

void FillRegions(const Service& service, google::protobuf::RepeatedPtrField<api::Region>* regions) {
  for (const Pool& pool : service.pools) {
    if (pool.region.empty()) continue;
    const Pool& serves = service.pools[pool.stand_in];
    const bool is_served = serves.assignment->front() != LookupTable::kNoMember;
    api::Region* region = regions->Add();
    region->set_name(pool.region);
    region->set_served_by(is_served ? serves.region : "");
  }
}

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
  CompareAccessAndFiles(before, after, &plan);
  const VipOwners owners(*before.snapshot, *after.snapshot);
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
    const Service& compiled_now = *after.snapshot->services()[i];
    Compare(old, service, {"name", "backends"}, one->mutable_settings());
    if (before.files != nullptr && after.files != nullptr) {
      CompareKeys(before, old, after, service, one);
    }
    CompareQuestions(old, service, one);
    const NameSet others = CompareBackends(old, service, compiled, open, one);
    FillMoved({old, compiled, service, compiled_now}, others, new_seed, one);
    NoteWeights(compiled, compiled_now, one);
    const bool is_same = one->settings().empty() && one->backends().empty();
    if (is_same && one->moved_at_most() > kNothing) {
      // What is by hand moves connections, too, and is not in the file.
      one->add_notes(new_seed
                         ? "another hash seed: about everything moves; what stays does so by chance"
                         : "weights or drains by hand change");
    }
    FillNotServed(compiled, compiled_now, owners, open, one);
    one->set_change(is_same && one->moved_at_most() <= kNothing ? "unchanged" : "changed");
    if (one->moved_at_most() > kNothing || !one->backends().empty()) FillShares(compiled_now, one);
    was.erase(found);
  }
  for (int i = 0; i < before.config->services_size(); ++i) {
    const config::Service& service = before.config->services(i);
    if (!was.contains(service.name())) continue;
    api::ServicePlan* one = plan.add_services();
    one->set_name(service.name());
    one->set_change("removed");
    const Service& compiled = *before.snapshot->services()[i];
    for (const Backend& backend : compiled.backends) {
      AddBackend(backend.name, "removed", open(backend.id), one);
    }
    one->add_notes(NoteOfRemoved(compiled, owners));
  }
  plan.set_changes(!plan.settings().empty() || !plan.needs_restart().empty());
  for (const api::ServicePlan& service : plan.services()) {
    if (service.change() != "unchanged") plan.set_changes(true);
    plan.set_moved(std::max(plan.moved(), service.moved()));
    plan.set_open_connections(plan.open_connections() + service.open_connections());
  }
  return plan;
}

absl::Status CheckMoved(const api::Plan& plan, const std::string& what,
                        const std::string& plan_call, double max_moved) {
  constexpr size_t kShown = 8;
  constexpr double kRounding = 1e-9;
  std::vector<std::string> moved;
  for (const api::ServicePlan& service : plan.services()) {
    // Whoever is not served any more has moved away.
    const bool is_removed = service.change() == "removed";
    const double share = is_removed ? 1 : service.moved_at_most();
    if (share <= max_moved + kRounding) continue;
    const bool is_known = is_removed || service.moved() + kRounding >= share;
    moved.push_back(absl::StrCat(
        is_known ? "" : "up to ", PercentText(share), " of service ", service.name(), "'s",
        is_known ? "" : " (how many of its clients are in which region cannot be told)"));
  }
  const std::string most = absl::StrFormat("%g%%", max_moved * 100);  // as it was given
  const double denied = std::max(plan.newly_denied_ipv4(), plan.newly_denied_ipv6());
  if (denied > max_moved) {
    return absl::OutOfRangeError(absl::StrCat(
        what, " is not put in force: `access` would deny ", PercentText(denied), " of all ",
        denied == plan.newly_denied_ipv4() ? "IPv4" : "IPv6",
        " addresses more than it does, and no more than ", most,
        " of new connections may move or be dropped; `", plan_call, "` tells which files change"));
  }
  if (moved.empty()) return absl::OkStatus();
  const size_t more = moved.size() > kShown ? moved.size() - kShown : 0;
  moved.resize(moved.size() - more);
  if (more > 0) moved.push_back(absl::StrCat("too much of ", more, " more services'"));
  return absl::OutOfRangeError(absl::StrCat(what,
                                            " is not put in force: ", absl::StrJoin(moved, ", "),
                                            " new connections would move, and no more than ", most,
                                            " may; `", plan_call, "` tells what moves and why"));
}

}  // namespace guideway

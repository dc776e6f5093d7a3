#include "control/inspect.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "control/api/api.pb.h"
#include "control/config/diagnostics.h"

namespace guideway {
namespace {

constexpr std::array<uint32_t, 5> kAgeBounds_s = {1, 10, 60, 300, 900};

// Entries are copied out of a table in pieces of so many places, which stay in a core's cache.
constexpr uint64_t kPlacesAtOnce = 4096;
// A turn of FlowStream ends with so much text, or after so many places.
constexpr size_t kTextAtOnce = 64 << 10;
constexpr uint64_t kPlacesATurn = 1 << 20;

struct Count {
  uint64_t flows = 0;
  uint64_t unconfirmed = 0;
  std::array<uint64_t, kAgeBounds_s.size() + 1> by_age = {};
};

size_t AgeClass(uint64_t age_ms) {
  size_t i = 0;
  while (i < kAgeBounds_s.size() && age_ms >= uint64_t{kAgeBounds_s[i]} * 1000) ++i;
  return i;
}

bool IsTimedOut(const FlowEntry& entry, const FlowTimeouts& timeouts) {
  uint64_t timeout_s = 0;
  switch (entry.state) {
    case FlowState::kTcpHandshake: timeout_s = timeouts.tcp_handshake_s; break;
    case FlowState::kTcpEstablished: timeout_s = timeouts.tcp_established_s; break;
    case FlowState::kTcpClosing: timeout_s = timeouts.tcp_closing_s; break;
    case FlowState::kUdp: timeout_s = timeouts.udp_s; break;
  }
  return entry.age_ms > timeout_s * 1000;
}

const std::string& ServiceName(const Snapshot& snapshot, const Backend& backend) {
  return snapshot.FindService(backend.service)->name;
}

// «"x"; it has a, b and 17 more; did you mean a?»
std::string NoneOf(absl::string_view found, absl::string_view there,
                   const std::vector<std::string>& names) {
  constexpr size_t kShown = 20;
  const size_t shown = std::min(kShown, names.size());
  return absl::StrCat(
      "\"", found, "\"; ", there, " ",
      names.empty()
          ? "none"
          : absl::StrJoin(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "),
      names.size() > shown ? absl::StrCat(" and ", names.size() - shown, " more") : "",
      Suggestion(found, names));
}

// In ms; `none` if it says nothing.
absl::StatusOr<uint64_t> AgeOf(const std::string& text, uint64_t none) {
  absl::Duration age;
  if (text.empty()) return none;
  if (!absl::ParseDuration(text, &age) || age < absl::ZeroDuration() ||
      age == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is no age: ages are like 500ms, 10s, 5m, 1h"));
  }
  return static_cast<uint64_t>(absl::ToInt64Milliseconds(age));
}

absl::StatusOr<const Service*> FindService(const Snapshot& snapshot, absl::string_view name) {
  std::vector<std::string> names;
  for (const auto& service : snapshot.services()) {
    if (service->name == name) return service.get();
    names.push_back(service->name);
  }
  return absl::NotFoundError(
      absl::StrCat("there is no service ", NoneOf(name, "there are", names)));
}

}  // namespace

absl::StatusOr<FlowFilter> FlowFilter::Make(const Snapshot& snapshot, const FlowQuery& query) {
  FlowFilter filter;
  if (!query.state.empty()) {
    std::vector<std::string> names;
    for (size_t i = 0; i < kFlowStates; ++i) {
      const auto state = static_cast<FlowState>(i);
      names.emplace_back(FlowStateName(state));
      if (query.state == names.back()) filter.state_ = state;
    }
    if (!filter.state_) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no state ", NoneOf(query.state, "there are", names)));
    }
  }
  absl::StatusOr<uint64_t> age = AgeOf(query.older_than, filter.least_age_ms_);
  if (!age.ok()) return age.status();
  filter.least_age_ms_ = *age;
  age = AgeOf(query.younger_than, filter.age_bound_ms_);
  if (!age.ok()) return age.status();
  filter.age_bound_ms_ = *age;
  const bool has_both = !query.older_than.empty() && !query.younger_than.empty();
  if (has_both && filter.least_age_ms_ >= filter.age_bound_ms_) {
    return absl::InvalidArgumentError(absl::StrCat("nothing is older than ", query.older_than,
                                                   " and younger than ", query.younger_than,
                                                   ": the first must be the shorter time"));
  }

  const std::string &service = query.service, &backend = query.backend;
  if (service.empty() && backend.empty()) return filter;
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(backend, absl::MaxSplits('/', 1));
  if (!backend.empty() && (parts.first.empty() || parts.second.empty())) {
    return absl::InvalidArgumentError(absl::StrCat("\"", backend, "\" is not SERVICE/BACKEND"));
  }
  if (!service.empty() && !backend.empty() && service != parts.first) {
    return absl::InvalidArgumentError(
        absl::StrCat("backend ", backend, " is not of service ", service));
  }
  const absl::StatusOr<const Service*> found =
      FindService(snapshot, backend.empty() ? service : parts.first);
  if (!found.ok()) return found.status();
  filter.backends_.resize(snapshot.backend_ids() + 1);
  bool any = backend.empty();
  std::vector<std::string> names;
  for (const Backend& b : (*found)->backends) {
    names.push_back(b.name);
    if (!backend.empty() && b.name != parts.second) continue;
    filter.backends_[b.id] = any = true;
  }
  if (!any) {
    return absl::NotFoundError(absl::StrCat("service ", parts.first, " has no backend ",
                                            NoneOf(parts.second, "it has", names)));
  }
  return filter;
}

api::FlowList CountFlows(const Inspection& inspection, const FlowFilter& filter) {
  const Snapshot& snapshot = *inspection.snapshot;
  std::vector<std::array<Count, kFlowStates>> counts(snapshot.backend_ids());  // by id
  api::FlowList list;
  std::vector<FlowEntry> entries;
  for (size_t w = 0; w < inspection.workers.size(); ++w) {
    const uint64_t capacity = inspection.workers[w].flow_capacity;
    for (uint64_t place = 0; place < capacity; place += kPlacesAtOnce) {
      entries.clear();
      inspection.dataplane->ReadFlows(w, place, std::min(place + kPlacesAtOnce, capacity),
                                      &entries);
      for (const FlowEntry& entry : entries) {
        if (!filter.Wants(entry)) continue;
        list.set_flows(list.flows() + 1);
        if (!snapshot.HasBackend(entry.backend)) {
          list.set_of_removed_backends(list.of_removed_backends() + 1);
          continue;
        }
        Count& count = counts[entry.backend][static_cast<size_t>(entry.state)];
        ++count.flows;
        count.unconfirmed += entry.unconfirmed ? 1 : 0;
        ++count.by_age[AgeClass(entry.age_ms)];
      }
    }
  }
  for (const uint32_t bound : kAgeBounds_s) list.add_age_bounds_seconds(bound);
  for (const auto& service : snapshot.services()) {
    for (const Backend& backend : service->backends) {
      for (size_t state = 0; state < kFlowStates; ++state) {
        const Count& count = counts[backend.id][state];
        if (count.flows == 0) continue;
        api::FlowCount* out = list.add_counts();
        out->set_service(service->name);
        out->set_backend(backend.name);
        out->set_state(std::string(FlowStateName(static_cast<FlowState>(state))));
        out->set_flows(count.flows);
        out->set_unconfirmed(count.unconfirmed);
        for (const uint64_t n : count.by_age) out->add_by_age(n);
      }
    }
  }
  return list;
}

bool FlowStream::Next(std::string* text) {
  const Snapshot& snapshot = *inspection_.snapshot;
  uint64_t places = 0;
  while (worker_ < inspection_.workers.size()) {
    const auto [core, capacity] = inspection_.workers[worker_];
    const uint64_t end = std::min(place_ + kPlacesAtOnce, capacity);
    entries_.clear();
    inspection_.dataplane->ReadFlows(worker_, place_, end, &entries_);
    for (const FlowEntry& entry : entries_) {
      if (!filter_.Wants(entry)) continue;
      const Backend* backend = snapshot.FindBackend(entry.backend);
      // By hand, for there may be millions. Names need no escapes.
      absl::StrAppend(text, "{\"core\": ", core, ", \"service\": \"",
                      backend == nullptr ? "" : ServiceName(snapshot, *backend),
                      "\", \"backend\": \"", backend == nullptr ? "" : backend->name);
      absl::StrAppend(text, "\", \"state\": \"", FlowStateName(entry.state),
                      "\", \"unconfirmed\": ", entry.unconfirmed ? "true" : "false",
                      ", \"age_seconds\": ", entry.age_ms / 1000, ".",
                      absl::Dec(entry.age_ms % 1000, absl::kZeroPad3));
      absl::StrAppend(text, ", \"timed_out\": ",
                      IsTimedOut(entry, snapshot.timeouts()) ? "true" : "false", "}\n");
    }
    places += end - place_;
    place_ = end;
    if (place_ == capacity) {
      ++worker_;
      place_ = 0;
    }
    if (text->size() >= kTextAtOnce || places >= kPlacesATurn) return true;
  }
  return !text->empty();
}

absl::StatusOr<api::FlowLookup> LookUpFlow(const Inspection& inspection,
                                           const std::string& packet) {
  const Snapshot& snapshot = *inspection.snapshot;
  const absl::StatusOr<Explanation> explanation = inspection.dataplane->Explain(snapshot, packet);
  if (!explanation.ok()) return explanation.status();
  api::FlowLookup lookup;
  if (absl::StartsWith(explanation->packet, "icmp")) {
    return absl::InvalidArgumentError(
        absl::StrCat(explanation->packet, " is of no connection: flow tables have tcp and udp"));
  }
  lookup.set_packet(explanation->packet);
  for (const Explanation::Known& known : explanation->known) {
    api::FlowEntry* out = lookup.add_entries();
    out->set_core(known.core);
    if (const Backend* backend = snapshot.FindBackend(known.entry.backend)) {
      out->set_service(ServiceName(snapshot, *backend));
      out->set_backend(backend->name);
    }
    out->set_state(std::string(FlowStateName(known.entry.state)));
    out->set_unconfirmed(known.entry.unconfirmed);
    out->set_age_seconds(static_cast<double>(known.entry.age_ms) / 1000);
    out->set_timed_out(known.timed_out);
    if (!known.timed_out) lookup.set_found(true);
  }
  return lookup;
}

absl::StatusOr<Explanation> Explain(const Inspection& inspection, const std::string& packet) {
  return inspection.dataplane->Explain(*inspection.snapshot, packet);
}

api::Explanation ToApi(const Explanation& explanation, const std::string& why) {
  api::Explanation out;
  out.set_packet(explanation.packet);
  out.set_verdict(explanation.verdict);
  out.set_reason(explanation.reason);
  out.set_service(explanation.service);
  out.set_backend(explanation.backend);
  out.set_flow(explanation.flow);
  if (explanation.slot.has_value()) out.set_slot(*explanation.slot);
  out.set_home(explanation.home);
  for (size_t i = 0; i < explanation.steps.size(); ++i) {
    out.add_steps(explanation.steps[i]);
    if (i == explanation.home_step && !why.empty()) out.add_steps(why);
  }
  for (const std::string& header : explanation.headers) out.add_headers(header);
  return out;
}

}  // namespace guideway

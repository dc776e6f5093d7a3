#include "control/inspect.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"

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

// «a, b and 17 more»
template <typename List, typename Name>
std::string Names(const List& list, const Name& name) {
  constexpr size_t kShown = 20;
  std::string names;
  for (size_t i = 0; i < std::min(kShown, list.size()); ++i) {
    absl::StrAppend(&names, i == 0 ? "" : ", ", name(list[i]));
  }
  if (list.size() > kShown) absl::StrAppend(&names, " and ", list.size() - kShown, " more");
  return names.empty() ? "none" : names;
}

absl::StatusOr<const Service*> FindService(const Snapshot& snapshot, absl::string_view name) {
  for (const auto& service : snapshot.services()) {
    if (service->name == name) return service.get();
  }
  return absl::NotFoundError(
      absl::StrCat("there is no service ", name, "; there are ",
                   Names(snapshot.services(), [](const auto& s) { return s->name; })));
}

}  // namespace

absl::StatusOr<FlowFilter> FlowFilter::Make(const Snapshot& snapshot, const std::string& service,
                                            const std::string& backend) {
  FlowFilter filter;
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
  filter.wanted_.resize(snapshot.backend_ids() + 1);
  bool any = backend.empty();
  for (const Backend& b : (*found)->backends) {
    if (!backend.empty() && b.name != parts.second) continue;
    filter.wanted_[b.id] = any = true;
  }
  if (!any) {
    return absl::NotFoundError(
        absl::StrCat("service ", parts.first, " has no backend ", parts.second, "; it has ",
                     Names((*found)->backends, [](const Backend& b) { return b.name; })));
  }
  return filter;
}

api::FlowList CountFlows(const Inspection& inspection, const FlowFilter& filter) {
  const Snapshot& snapshot = *inspection.snapshot;
  std::vector<std::array<Count, kFlowStates>> counts(snapshot.backend_ids());  // by id
  std::vector<FlowEntry> entries;
  api::FlowList list;
  for (size_t w = 0; w < inspection.workers.size(); ++w) {
    const uint64_t capacity = inspection.workers[w].flow_capacity;
    for (uint64_t place = 0; place < capacity; place += kPlacesAtOnce) {
      entries.clear();
      inspection.dataplane->ReadFlows(w, place, std::min(place + kPlacesAtOnce, capacity),
                                      &entries);
      for (const FlowEntry& entry : entries) {
        if (!filter.Wants(entry.backend)) continue;
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
      if (!filter_.Wants(entry.backend)) continue;
      const Backend* backend = snapshot.FindBackend(entry.backend);
      // By hand, for there may be millions. Names need no escapes.
      absl::StrAppend(text, "{\"core\": ", core, ", \"service\": \"",
                      backend == nullptr ? "" : ServiceName(snapshot, *backend),
                      "\", \"backend\": \"", backend == nullptr ? "" : backend->name);
      absl::StrAppend(text, "\", \"state\": \"", FlowStateName(entry.state),
                      "\", \"unconfirmed\": ", entry.unconfirmed ? "true" : "false",
                      ", \"age_seconds\": ", static_cast<double>(entry.age_ms) / 1000);
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

absl::StatusOr<api::Explanation> Explain(const Inspection& inspection, const std::string& packet) {
  absl::StatusOr<Explanation> found = inspection.dataplane->Explain(*inspection.snapshot, packet);
  if (!found.ok()) return found.status();
  api::Explanation out;
  out.set_packet(found->packet);
  out.set_verdict(found->verdict);
  out.set_reason(found->reason);
  out.set_service(found->service);
  out.set_backend(found->backend);
  out.set_flow(found->flow);
  if (found->slot.has_value()) out.set_slot(*found->slot);
  out.set_home(found->home);
  for (std::string& step : found->steps) out.add_steps(std::move(step));
  for (std::string& header : found->headers) out.add_headers(std::move(header));
  return out;
}

}  // namespace guideway

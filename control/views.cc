#include "control/views.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "control/overrides.h"
#include "control/plan.h"
#include "control/service_health.h"
#include "maglev/snapshot.h"
#include "maglev/time_text.h"

namespace guideway {
namespace {

void Fill(const PacketCounts& counts, api::PacketCounters* out) {
  out->set_received(counts.received);
  out->set_forwarded(counts.of(Verdict::kForward));
  out->set_replied(counts.of(Verdict::kReply));
  out->set_punted(counts.of(Verdict::kPunt));
  out->set_dropped(counts.of(Verdict::kDrop));
  for (size_t i = 0; i < kReasons; ++i) {
    (*out->mutable_drops())[std::string(kReasonInfo[i].name)] = counts.reasons[i];
  }
}

// « (alice, 2026-01-02 03:04:05 UTC)»; empty if nobody knows.
std::string ByText(const api::Author* author) {
  if (author == nullptr) return "";
  return absl::StrCat(" (", author->who(), ", ", TimeText(author->time()), " UTC)");
}

}  // namespace

void FillDataplane(const Dataplane& dataplane, api::Status* status) {
  PacketCounts sum;
  for (const WorkerStatus& worker : dataplane.workers()) {
    sum += worker.packets;
    api::Worker* out = status->add_workers();
    out->set_core(worker.core);
    Fill(worker.packets, out->mutable_packets());
    out->set_flows(worker.flows);
    out->set_flow_capacity(worker.flow_capacity);
    out->set_flows_not_stored(worker.flows_not_stored);
    out->set_flows_evicted(worker.flows_evicted);
    out->set_busy_seconds(static_cast<double>(worker.busy_ns) / 1e9);
    out->set_idle_seconds(static_cast<double>(worker.idle_ns) / 1e9);
    out->set_rounds(worker.rounds);
  }
  Fill(sum, status->mutable_packets());
  for (const InterfaceStatus& interface : dataplane.interfaces()) {
    api::Interface* out = status->add_interfaces();
    out->set_name(interface.name);
    out->set_device(interface.device);
    out->set_mac(interface.mac.ToString());
    out->set_link_up(interface.link_up);
    out->set_received_packets(interface.received_packets);
    out->set_sent_packets(interface.sent_packets);
    out->set_missed(interface.missed_packets);
  }
}

void FillOverrides(const InForce& now, const OverrideAuthors& authors, api::Status* status) {
  *status->mutable_overrides() = ToApi(*now.overrides);
  for (api::Override& override : *status->mutable_overrides()) {
    const std::string name = absl::StrCat(override.service(), "/", override.backend());
    if (const auto place = now.revision->PlaceOf(name)) {
      const config::Backend& backend = now.revision->BackendAt(*place);
      override.set_file_weight(backend.weight());
      override.set_file_drains(backend.state() == config::AdminState::drain);
    }
    if (const api::Author* author = authors.OfDrain(name)) *override.mutable_drained_by() = *author;
    if (const api::Author* author = authors.OfWeight(name)) *override.mutable_weight_by() = *author;
  }
}

void FillServices(const InForce& now, const NamedCounts& counts, api::ServiceList* list) {
  for (size_t s = 0; s < now.revision->services.size(); ++s) {
    const Revision::Service& planned = now.revision->services[s];
    const config::Service& config = now.revision->config().services(static_cast<int>(s));
    const Service& service = *now.snapshot->services()[s];
    api::Service* out = list->add_services();
    out->set_name(service.name);
    for (const Prefix& vip : service.vips) out->add_vips(vip.ToString());
    out->set_protocol(std::string(ProtocolName(service.protocol)));
    *out->mutable_ports() = config.ports();
    out->set_forwarding(std::string(ForwardingName(service.forwarding)));
    out->set_scheduler(config::Scheduler::Value_Name(config.scheduler()));
    out->set_backends(static_cast<uint32_t>(service.backends.size()));
    out->set_backends_up(static_cast<uint32_t>(std::count_if(
        service.backends.begin(), service.backends.end(),
        [](const Backend& b) { return b.state == BackendState::kUp && b.weight > 0; })));
    const ServiceCounts counted = counts.OfService(planned.id);
    out->set_packets(counted.packets);
    out->set_bytes(counted.bytes);
    out->set_forwarded(counted.forwarded);
    out->set_dropped(counted.dropped);
    uint64_t active_flows = 0, closing_flows = 0;
    for (const Revision::Backend& backend : planned.backends) {
      const BackendCounts one = counts.OfBackend(backend.id);
      active_flows += one.active_flows;
      closing_flows += one.closing_flows;
    }
    out->set_new_flows(counts.NewFlows(planned));
    out->set_active_flows(active_flows);
    out->set_closing_flows(closing_flows);
    out->set_health_ignored(now.health[s].health_ignored);
    out->set_healthy(now.health[s].healthy);
    FillRegions(service, out->mutable_regions());
  }
}

void FillBackends(const InForce& now, const NamedCounts& counts, LookAt look_at,
                  api::BackendList* list) {
  for (size_t s = 0; s < now.revision->services.size(); ++s) {
    const config::Service& config = now.revision->config().services(static_cast<int>(s));
    const Service& service = *now.snapshot->services()[s];
    for (int b = 0; b < config.backends_size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), b};
      const Revision::Backend& planned = now.revision->at(place);
      const BackendNow at_this_moment = look_at(place);
      api::Backend* out = list->add_backends();
      out->set_service(config.name());
      out->set_name(config.backends(b).name());
      out->set_address(planned.address.ToString());
      const Override override = OverrideOf(*now.overrides, now.revision->NameOf(place));
      out->set_drained_by_hand(override.drained);
      out->set_weight_by_hand(override.weight.has_value());
      out->set_file_weight(config.backends(b).weight());
      out->set_drained_by_file(config.backends(b).state() == config::AdminState::drain);
      out->set_health(at_this_moment.health.reason);
      out->set_down(at_this_moment.health.health == Health::kDown);
      const Backend* member = now.snapshot->FindBackend(planned.id);
      out->set_weight(member->weight);
      out->set_state(std::string(StandingName(now.StandingOf(place))));
      out->set_tenths(member->share);
      out->set_health_ignored(now.health[s].health_ignored);
      out->set_times_down(at_this_moment.times_down);
      if (now.StandingOf(place) == Standing::kHeld) {
        out->set_held_seconds(static_cast<uint32_t>(
            absl::ToInt64Seconds(absl::Ceil(at_this_moment.held_for, absl::Seconds(1)))));
      }
      out->set_region(config.backends(b).region());
      out->set_share(service.connection_shares[member - service.backends.data()]);
      const BackendCounts counted = counts.OfBackend(planned.id);
      out->set_packets(counted.packets);
      out->set_bytes(counted.bytes);
      out->set_new_flows(counted.new_flows);
      out->set_active_flows(counted.active_flows);
      out->set_closing_flows(counted.closing_flows);
    }
  }
}

std::string WhyUnused(const InForce& now, const OverrideAuthors& authors, LookAt look_at,
                      const std::string& service, const std::string& backend) {
  const std::string name = absl::StrCat(service, "/", backend);
  const auto found = now.revision->PlaceOf(name);
  if (!found) return "";
  const Revision::Place& place = *found;
  const Backend& member = *now.snapshot->FindBackend(now.revision->at(place).id);
  switch (now.StandingOf(place)) {
    case Standing::kUp:
      if (member.share == kFullShare) return "";
      return absl::StrCat(backend, " is in its slow start, and takes ", member.share,
                          " tenths of what the table has for it");
    case Standing::kDown: return absl::StrCat(backend, " is down: ", look_at(place).health.reason);
    case Standing::kDrain:
      if (OverrideOf(*now.overrides, name).drained) {
        return absl::StrCat(backend, " is drained by hand", ByText(authors.OfDrain(name)));
      }
      return absl::StrCat(backend, " is drained by the configuration (state: drain)");
    case Standing::kChecking:
      return absl::StrCat(backend, " is new, and no probe of it has been answered yet");
    case Standing::kHeld:
      return absl::StrCat(backend, " has gone down again and again, and is held for ",
                          AgeText(static_cast<uint64_t>(absl::ToInt64Milliseconds(
                              absl::Ceil(look_at(place).held_for, absl::Seconds(1))))),
                          " more");
  }
  return "";
}

}  // namespace guideway

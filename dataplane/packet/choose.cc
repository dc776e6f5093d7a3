#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "dataplane/packet/match.h"
#include "dataplane/packet/stages.h"
#include "maglev/choice.h"
#include "maglev/headers.h"
#include "maglev/quic_lb.h"

namespace guideway {
namespace {

// A SYN without ACK: the client opens a connection, or opens it again.
bool OpensConnection(const ParsedPacket& packet) {
  return (packet.tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn;
}

// TCP flags of packets that change their connection's state.
constexpr uint8_t kBeginOrEnd = kTcpSyn | kTcpFin | kTcpRst;

// Whether a packet of a connection in that state may change it.
bool BeginsOrEnds(FlowState state, const ParsedPacket& packet) {
  return state == FlowState::kTcpHandshake || state == FlowState::kTcpClosing ||
         (packet.tcp_flags & kBeginOrEnd) != 0;
}

// Whether this packet may still go to the backend of its connection's entry.
bool Keeps(const Flow& flow, const Snapshot& snapshot, ServiceId service,
           const ParsedPacket& packet) {
  const Target& target = snapshot.TargetOf(flow.backend);
  if (target.id != flow.backend || target.service != service) return false;
  switch (target.state) {
    case BackendState::kUp: return true;
    case BackendState::kDrain: return !OpensConnection(packet);
    case BackendState::kDown: return false;
  }
  return false;
}

FlowState FirstState(const ParsedPacket& packet, uint8_t protocol) {
  if (protocol != kProtocolTcp) return FlowState::kUdp;
  if (OpensConnection(packet)) return FlowState::kTcpHandshake;
  return (packet.tcp_flags & (kTcpFin | kTcpRst)) != 0 ? FlowState::kTcpClosing
                                                       : FlowState::kTcpEstablished;
}

// The state after one more packet of the connection. A bare ACK does not take a closing connection
// back (it may acknowledge the server's FIN), data does.
FlowState NextState(FlowState state, const ParsedPacket& packet) {
  if (state == FlowState::kUdp) return state;
  if (OpensConnection(packet)) return FlowState::kTcpHandshake;
  if ((packet.tcp_flags & (kTcpFin | kTcpRst)) != 0) return FlowState::kTcpClosing;
  if (state == FlowState::kTcpClosing && !packet.has_payload) return state;
  return FlowState::kTcpEstablished;
}

// How young an entry has to be for its connection to go on as it is, in ticks; by the entry's
// state, and whether it is unconfirmed.
class SteadyAges {
 public:
  // `matched_since`: when Match last changed its mind. What was last looked at by then has to be
  // matched again.
  SteadyAges(const FlowClock& clock, Ticks matched_since) {
    const Ticks known = clock.now - matched_since;
    for (FlowState state : {FlowState::kTcpEstablished, FlowState::kUdp}) {
      const Ticks counts = std::min(clock.timeout[static_cast<size_t>(state)] + 1, known);
      below_[Index(state, false)] = counts;
      below_[Index(state, true)] = std::min(counts, kTicksPerSecond);
    }
  }
  bool Has(const Flow& flow, Ticks now) const {
    return now - flow.touched < below_[Index(flow.state, flow.unconfirmed)];
  }

 private:
  static size_t Index(FlowState state, bool unconfirmed) {
    return static_cast<size_t>(state) << 1 | static_cast<size_t>(unconfirmed);
  }
  std::array<Ticks, 2 * kFlowStates> below_ = {};  // 0: never
};

// One burst's choices.
class Choosing {
 public:
  Choosing(const Snapshot& snapshot, Nanoseconds now, Ticks matched_since, SharedState& shared,
           FlowTable& flows, Chooser& chooser, WorkerCounters& counters)
      : snapshot_(snapshot),
        now_(now),
        clock_(TicksOf(now), snapshot.timeouts()),
        steady_(clock_, matched_since),
        shared_(shared),
        flows_(flows),
        chooser_(chooser),
        counters_(counters),
        matcher_(snapshot) {}

  // Brings closer what Choose will want for a packet that Recall found nothing about: most likely
  // the hash will decide.
  void LookAhead(Packet& p) const {
    if (p.to_choose) __builtin_prefetch(p.by_hash = FromTable(p));
  }

  bool Choose(Packet& p) {
    if (p.entry) {
      if (IsSteady(p)) return true;
      if (!matcher_.Match(p)) return false;
    }
    return !p.to_choose || ChooseAnew(p);
  }

 private:
  // What nearly all packets are: in the middle of a connection that is known, found where Recall
  // saw it, and about which nothing changes but the time. For these Match and ChooseAnew would do
  // the same.
  bool IsSteady(Packet& p) const {
    FlowTable::Entry entry = p.entry;
    if (!FlowTable::IsOf(entry, p.hash)) return false;
    const Flow flow = entry.flow();
    WorkerCounters::PerBackend& backend = counters_.BackendIn(snapshot_, flow.backend);
    const bool is_steady = steady_.Has(flow, clock_.now) &&
                           (p.parsed.tcp_flags & kBeginOrEnd) == 0 && backend.adjacency.keeps_all;
    if (!is_steady) return false;
    if (flow.touched != clock_.now && !flow.unconfirmed) entry.Touch(clock_.now);
    if (backend.adjacency.is_large) __builtin_prefetch(p.frame.data - 2 * Adjacency::kLine, 1);
    p.SendTo(flow.backend, backend);
    p.lookup = FlowLookup::kHit;
    return true;
  }

  [[gnu::noinline]] bool ChooseAnew(Packet& p) {
    if (const Backend* backend = ByQuicId(p)) return SendTo(p, backend);
    if (p.quote != 0) return FollowConnection(p);
    if (const auto entry = flows_.Find(p.hash)) return Continue(p, entry);
    if (p.parsed.is_fragment && FindElsewhere(p)) return true;
    return Open(p);
  }

  bool SendTo(Packet& p, const Backend* backend) const {
    if (backend == nullptr) return false;
    SendTo(p, backend->id);
    return true;
  }
  void SendTo(Packet& p, BackendId id) const { p.SendTo(id, counters_.BackendIn(snapshot_, id)); }

  // The backend that the packet's QUIC connection id names, if it takes packets; else null.
  const Backend* ByQuicId(const Packet& p) const {
    const Service& service = ServiceOf(p);
    if (service.quic == nullptr || p.quote != 0) return nullptr;
    const ParsedPacket& packet = p.parsed;
    const uint8_t* udp = p.frame.data + packet.ip_offset + packet.transport_offset;
    // The datagram may end before the packet, and goes on in other fragments.
    const uint32_t length =
        std::min<uint32_t>(NetworkOrder(Read<UdpHeader>(udp).length), packet.transport_length());
    const uint32_t index =
        service.quic->FindInPacket(absl::MakeConstSpan(udp, length).subspan(sizeof(UdpHeader)));
    if (index == QuicLb::kNone) return nullptr;
    const Backend& backend = service.backends[index];
    return backend.state == BackendState::kDown ? nullptr : &backend;
  }

  const Service& ServiceOf(const Packet& p) const { return snapshot_.ServiceOf(p.service); }
  const Backend* ByHash(const Packet& p) const { return p.entry ? FromTable(p) : p.by_hash; }
  const Backend* FromTable(const Packet& p) const {
    return ChooseByHash(ServiceOf(p), p.key.source_address(), p.hash, snapshot_.hash_seed());
  }

  // A connection is given away once: by the scheduler when it opens. What comes in the middle of
  // one that nothing is known of goes where every balancer would send it.
  const Backend* ByScheduler(const Packet& p) {
    const bool opens = p.key.protocol != kProtocolTcp || OpensConnection(p.parsed);
    if (!opens || ChoosesByTable(ServiceOf(p).scheduler)) return ByHash(p);
    return chooser_.Choose(ServiceOf(p), p.key.source_address(), p.hash, snapshot_.hash_seed(),
                           [&](BackendId id) { return shared_.LiveConnections(id); });
  }

  // Whether the service's limit lets this connection open. What is in the middle of one may pass.
  bool MayOpen(const Packet& p) {
    const Service& service = ServiceOf(p);
    if (service.new_flows_per_second == 0) return true;
    if (p.key.protocol == kProtocolTcp && !OpensConnection(p.parsed)) return true;
    return shared_.new_flows(service.id).Take(service.new_flows_per_second, now_);
  }

  // An ICMP error goes where its connection goes, in whichever worker's table that is.
  bool FollowConnection(Packet& p) {
    if (FindElsewhere(p)) return true;
    return SendTo(p, ByHash(p)) || p.Drop(Reason::kNoBackend);
  }

  // The backend of the packet's connection by any worker's table, if it takes such packets.
  bool FindElsewhere(Packet& p) {
    for (size_t worker = 0; worker < shared_.workers(); ++worker) {
      const std::optional<Flow> flow = shared_.flows(worker).Peek(p.hash);
      if (!flow.has_value() || flow->IsTimedOut(clock_)) continue;
      if (!Keeps(*flow, snapshot_, p.service, p.parsed)) continue;
      SendTo(p, flow->backend);
      p.lookup = FlowLookup::kHit;
      return true;
    }
    return false;
  }

  // The packet's connection has an entry: keeps its backend, or takes another.
  bool Continue(Packet& p, FlowTable::Entry entry) {
    const ParsedPacket& packet = p.parsed;
    Flow flow = entry.flow();
    const Flow was = flow;
    // Another connection with the same addresses and ports, or the same one again.
    const bool is_over = flow.IsTimedOut(clock_) ||
                         (flow.state == FlowState::kTcpClosing && OpensConnection(packet));
    p.lookup = FlowLookup::kHit;
    if (is_over || !Keeps(flow, snapshot_, p.service, packet)) {
      p.lookup = FlowLookup::kNone;
      const Backend* backend = ByScheduler(p);
      if (backend == nullptr) return p.Drop(Reason::kNoBackend);
      if (is_over && !MayOpen(p)) return p.Drop(Reason::kRateLimited);
      counters_.backend(flow.backend).active_flows.Sub(1);
      counters_.backend(backend->id).active_flows.Add(1);
      flow.backend = backend->id;
      p.opened = true;
      p.lookup = FlowLookup::kNew;
    }
    if (is_over) {
      flow.state = FirstState(packet, p.key.protocol);
      flow.unconfirmed = true;
      flow.touched = clock_.now;
    } else {
      flow.state = NextState(flow.state, packet);
      if (flow.unconfirmed && clock_.now - flow.touched >= kTicksPerSecond) {
        flow.unconfirmed = false;
      }
      if (!flow.unconfirmed) flow.touched = clock_.now;
    }
    entry.Update(flow);
    if (was.state == FlowState::kTcpClosing) counters_.flows_of_backend(was.backend).closing.Sub(1);
    if (flow.state == FlowState::kTcpClosing)
      counters_.flows_of_backend(flow.backend).closing.Add(1);
    SendTo(p, flow.backend);
    return true;
  }

  bool Open(Packet& p) {
    const Backend* backend = ByScheduler(p);
    if (backend == nullptr) return p.Drop(Reason::kNoBackend);
    if (!MayOpen(p)) return p.Drop(Reason::kRateLimited);
    const FlowState state = FirstState(p.parsed, p.key.protocol);
    const FlowTable::Entry place = flows_.FindPlace(p.hash, clock_);
    if (!place) {
      // Nobody will remember what the scheduler chose; the hash needs no memory.
      backend = ByHash(p);
      if (backend == nullptr) return p.Drop(Reason::kNoBackend);
      // Every packet of such a connection comes here; its first one counts.
      p.opened = OpensConnection(p.parsed);
      if (p.opened) counters_.flows_not_stored().Add(1);
      return SendTo(p, backend);
    }
    const Flow gone = flows_.Put(place, p.hash, Flow::Of(backend->id, state, true, clock_.now));
    p.opened = true;
    p.lookup = FlowLookup::kNew;
    counters_.backend(backend->id).active_flows.Add(1);
    if (state == FlowState::kTcpClosing) counters_.flows_of_backend(backend->id).closing.Add(1);
    if (gone.backend == kNoBackend) {
      counters_.flows().Add(1);
    } else {
      counters_.backend(gone.backend).active_flows.Sub(1);
      if (gone.state == FlowState::kTcpClosing)
        counters_.flows_of_backend(gone.backend).closing.Sub(1);
      if (!gone.IsTimedOut(clock_)) counters_.flows_evicted().Add(1);
    }
    return SendTo(p, backend);
  }

  const Snapshot& snapshot_;
  const Nanoseconds now_;
  const FlowClock clock_;
  const SteadyAges steady_;
  SharedState& shared_;
  FlowTable& flows_;
  Chooser& chooser_;
  WorkerCounters& counters_;
  Matcher matcher_;
};

}  // namespace

void Recall(const Snapshot& snapshot, FlowTable& flows, WorkerCounters& counters, Burst& burst) {
  const Vips* const vips = snapshot.vips().are_many() ? &snapshot.vips() : nullptr;
  const auto prefetch_vip = [&](const Packet& p) {
    if (vips != nullptr) vips->Prefetch(p.key.destination_address());
  };
  // Looks for the connection in the line where it is expected.
  const auto look = [&](Packet& p) {
    const FlowTable::Entry entry = FlowTable::Glance(p.entry, p.hash);
    if (!entry) return false;
    p.entry = entry;
    const Flow flow = entry.flow();
    p.per_backend = &counters.backend(flow.backend);
    __builtin_prefetch(p.per_backend);
    if (BeginsOrEnds(flow.state, p.parsed)) prefetch_vip(p);
    return true;
  };
  const auto is_unknown = [&](Packet& p) {
    p.entry = FlowTable::Entry::None();
    burst.all_known = false;
  };
  burst.all_known = true;
  std::array<Packet*, Burst::kSize> others;  // that are not in their first line
  size_t others_size = 0;
  for (Packet& p : burst.all()) {
    if (p.entry && look(p)) continue;
    prefetch_vip(p);
    if (!p.entry) {
      burst.all_known = false;
      continue;
    }
    p.entry = flows.ExpectOther(p.hash);
    // One that opens its connection is hardly in the other line. Should it be, Choose finds it.
    if (OpensConnection(p.parsed)) {
      is_unknown(p);
    } else {
      others[others_size++] = &p;
    }
  }
  for (Packet* p : std::span(others).first(others_size)) {
    if (!look(*p)) is_unknown(*p);
  }
}

void Choose(const Snapshot& snapshot, Nanoseconds now, Ticks matched_since, SharedState& shared,
            FlowTable& flows, Chooser& chooser, WorkerCounters& counters, Burst& burst) {
  Choosing choosing(snapshot, now, matched_since, shared, flows, chooser, counters);
  if (!burst.all_known) {
    for (Packet& p : burst.all()) choosing.LookAhead(p);
  }
  burst.ForUndecided([&](Packet& p) { return choosing.Choose(p); });
}

}  // namespace guideway

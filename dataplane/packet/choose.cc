#include <algorithm>
#include <optional>

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

// The target of an entry, if this packet may still go there; else null.
const Target* TargetOf(const Flow& flow, const Snapshot& snapshot, ServiceId service,
                       const ParsedPacket& packet) {
  const Target& target = snapshot.TargetOf(flow.backend);
  if (target.id != flow.backend || target.service != service) return nullptr;
  switch (target.state) {
    case BackendState::kUp: return &target;
    case BackendState::kDrain: return OpensConnection(packet) ? nullptr : &target;
    case BackendState::kDown: return nullptr;
  }
  return nullptr;
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

// One burst's choices.
class Choosing {
 public:
  Choosing(const Snapshot& snapshot, Nanoseconds now, SharedState& shared, FlowTable& flows,
           Chooser& chooser, WorkerCounters& counters)
      : snapshot_(snapshot),
        now_(now),
        clock_(TicksOf(now), snapshot.timeouts()),
        shared_(shared),
        flows_(flows),
        chooser_(chooser),
        counters_(counters) {}

  // Brings closer what Choose and the stages behind it will want: most likely the connection has an
  // entry, and goes on to its target.
  void LookAhead(Packet& p) {
    if (p.service_id != last_service_) {
      last_service_ = p.service_id;
      __builtin_prefetch(&counters_.service(p.service_id), 0, 2);
    }
    p.entry = flows_.Glance(p.hash);
    if (!p.entry) {
      has_unknown_ = true;
      return;
    }
    const BackendId id = p.entry.flow().backend;
    p.target = &snapshot_.TargetOf(id);
    __builtin_prefetch(p.target, 0, 2);
  }

  // The same for the packets that LookAhead found nothing about: most likely the hash will decide.
  void LookFurtherAhead(Burst& burst) const {
    if (!has_unknown_) return;
    for (Packet& p : burst.all()) {
      if (p.to_choose && !p.entry) __builtin_prefetch(p.by_hash = FromTable(p));
    }
  }

  bool Choose(Packet& p) { return IsSteady(p) || ChooseAnew(p); }

 private:
  // What nearly all packets are: in the middle of a connection that is known, found where LookAhead
  // saw it, and about which nothing changes but the time. For these ChooseAnew would do the same.
  bool IsSteady(Packet& p) const {
    FlowTable::Entry entry = p.entry;
    if (!FlowTable::IsOf(entry, p.hash)) return false;
    const Flow flow = entry.flow();
    const Target& target = *p.target;
    const bool is_steady = flow.IsConfirmedAndOpen() && !flow.IsTimedOut(clock_) &&
                           (p.parsed.tcp_flags & (kTcpSyn | kTcpFin | kTcpRst)) == 0 &&
                           target.id == flow.backend && target.keeps_all &&
                           target.service == p.service_id && p.quote == 0;
    if (!is_steady) return false;
    __builtin_prefetch(&counters_.backend(flow.backend), 0, 2);
    if (flow.touched != clock_.now) entry.Touch(clock_.now);
    p.lookup = FlowLookup::kHit;
    FetchForEnvelope(target, p.frame);
    return true;
  }

  // For a large envelope: the rest of it, and of the room for it in front of the packet.
  static void FetchForEnvelope(const Target& target, const Frame& frame) {
    constexpr uint32_t kLine = alignof(Target);
    if (target.envelope.facts.size <= Target::kBytesInFirstLine) return;
    __builtin_prefetch(reinterpret_cast<const uint8_t*>(&target) + kLine);
    if (target.envelope.facts.outer_size() > kLine) __builtin_prefetch(frame.data - 2 * kLine, 1);
  }

  [[gnu::noinline]] bool ChooseAnew(Packet& p) {
    p.target = nullptr;
    if (const Backend* backend = ByQuicId(p)) return SendTo(p, backend);
    if (p.quote != 0) return FollowConnection(p);
    if (const auto entry = flows_.Find(p.hash)) return Continue(p, entry);
    if (p.parsed.is_fragment && FindElsewhere(p)) return true;
    return Open(p);
  }

  bool SendTo(Packet& p, const Backend* backend) const {
    if (backend == nullptr) return false;
    p.target = &snapshot_.TargetOf(backend->id);
    return true;
  }

  // The backend that the packet's QUIC connection id names, if it takes packets; else null.
  const Backend* ByQuicId(const Packet& p) const {
    const Service& service = *p.service;
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

  const Backend* ByHash(const Packet& p) const { return p.entry ? FromTable(p) : p.by_hash; }
  const Backend* FromTable(const Packet& p) const {
    return ChooseByHash(*p.service, p.key.source_address(), p.hash, snapshot_.hash_seed());
  }

  // A connection is given away once: by the scheduler when it opens. What comes in the middle of
  // one that nothing is known of goes where every balancer would send it.
  const Backend* ByScheduler(const Packet& p) {
    const bool opens = p.key.protocol != kProtocolTcp || OpensConnection(p.parsed);
    if (!opens || ChoosesByTable(p.service->scheduler)) return ByHash(p);
    return chooser_.Choose(*p.service, p.key.source_address(), p.hash, snapshot_.hash_seed(),
                           [&](BackendId id) { return shared_.LiveConnections(id); });
  }

  // Whether the service's limit lets this connection open. What is in the middle of one may pass.
  bool MayOpen(const Packet& p) {
    const Service& service = *p.service;
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
      const Target* target = TargetOf(*flow, snapshot_, p.service_id, p.parsed);
      if (target == nullptr) continue;
      p.target = target;
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
    const Target* target = is_over ? nullptr : TargetOf(flow, snapshot_, p.service_id, packet);
    p.lookup = FlowLookup::kHit;
    if (target == nullptr) {
      p.lookup = FlowLookup::kNone;
      const Backend* backend = ByScheduler(p);
      if (backend == nullptr) return p.Drop(Reason::kNoBackend);
      if (is_over && !MayOpen(p)) return p.Drop(Reason::kRateLimited);
      counters_.backend(flow.backend).active_flows.Sub(1);
      counters_.backend(backend->id).active_flows.Add(1);
      target = &snapshot_.TargetOf(backend->id);
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
    if (was.state == FlowState::kTcpClosing) counters_.closing_flows(was.backend).Sub(1);
    if (flow.state == FlowState::kTcpClosing) counters_.closing_flows(flow.backend).Add(1);
    p.target = target;
    return true;
  }

  bool Open(Packet& p) {
    const Backend* backend = ByScheduler(p);
    if (backend == nullptr) return p.Drop(Reason::kNoBackend);
    if (!MayOpen(p)) return p.Drop(Reason::kRateLimited);
    const FlowState state = FirstState(p.parsed, p.key.protocol);
    const FlowTable::Inserted inserted =
        flows_.Insert(p.hash, Flow::Of(backend->id, state, true, clock_.now), clock_);
    // Of a connection without an entry every packet comes here; its first one counts.
    p.opened = inserted.stored || OpensConnection(p.parsed);
    if (inserted.stored) {
      p.lookup = FlowLookup::kNew;
      counters_.backend(backend->id).active_flows.Add(1);
      if (state == FlowState::kTcpClosing) counters_.closing_flows(backend->id).Add(1);
      if (inserted.evicted == kNoBackend) counters_.flows().Add(1);
    } else {
      // Nobody will remember what the scheduler chose; the hash needs no memory.
      backend = ByHash(p);
      if (backend == nullptr) return p.Drop(Reason::kNoBackend);
      if (p.opened) counters_.flows_not_stored().Add(1);
    }
    if (inserted.evicted != kNoBackend) {
      counters_.backend(inserted.evicted).active_flows.Sub(1);
      if (inserted.was_closing) counters_.closing_flows(inserted.evicted).Sub(1);
      if (inserted.was_live) counters_.flows_evicted().Add(1);
    }
    return SendTo(p, backend);
  }

  const Snapshot& snapshot_;
  const Nanoseconds now_;
  const FlowClock clock_;
  SharedState& shared_;
  FlowTable& flows_;
  Chooser& chooser_;
  WorkerCounters& counters_;
  bool has_unknown_ = false;
  ServiceId last_service_ = kMaxServices;  // none
};

}  // namespace

void Choose(const Snapshot& snapshot, Nanoseconds now, SharedState& shared, FlowTable& flows,
            Chooser& chooser, WorkerCounters& counters, Burst& burst) {
  Choosing choosing(snapshot, now, shared, flows, chooser, counters);
  for (Packet& p : burst.all()) {
    if (p.to_choose) choosing.LookAhead(p);
  }
  choosing.LookFurtherAhead(burst);
  for (Packet& p : burst.all()) {
    if (p.to_choose && !choosing.Choose(p)) p.undecided = false;
  }
}

}  // namespace guideway

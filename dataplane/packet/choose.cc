#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "maglev/headers.h"
#include "dataplane/packet/stages.h"
#include "maglev/choice.h"
#include "maglev/quic_lb.h"

namespace guideway {
namespace {

// A SYN without ACK: the client opens a connection, or opens it again.
bool OpensConnection(const ParsedPacket& packet) {
  return (packet.tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn;
}

// The backend of an entry, if this packet may still go there; else null.
const Backend* BackendOf(const Flow& flow, const Snapshot& snapshot, const Service& service,
                         const ParsedPacket& packet) {
  const Backend* backend = snapshot.FindBackend(flow.backend);
  if (backend == nullptr || backend->service != service.id) return nullptr;
  switch (backend->state) {
    case BackendState::kUp: return backend;
    case BackendState::kDrain: return OpensConnection(packet) ? nullptr : backend;
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
           Chooser& chooser, WorkerCounters& counters, Burst& burst)
      : snapshot_(snapshot),
        now_(now),
        clock_(TicksOf(now), snapshot.timeouts()),
        shared_(shared),
        flows_(flows),
        chooser_(chooser),
        counters_(counters),
        burst_(burst) {}

  // Brings closer what Choose and the stages behind it will want.
  void LookAhead(uint8_t i) {
    Ahead& ahead = ahead_[i];
    ahead.entry = flows_.Glance(burst_.hashes[i]);
    if (!ahead.entry) {
      unknown_ |= PacketSet{1} << i;
      return;
    }
    const BackendId id = ahead.entry.flow().backend;
    ahead.backend = snapshot_.FindBackend(id);
    __builtin_prefetch(ahead.backend);
    __builtin_prefetch(&counters_.backend(id), 1);
    __builtin_prefetch(&counters_.service(burst_.services[i]->id), 1);
  }

  // The same for the packets that LookAhead found nothing about: most likely the hash will decide.
  void LookFurtherAhead() {
    for (PacketSet left = unknown_; left != 0; left &= left - 1) {
      __builtin_prefetch(ByHash(static_cast<uint8_t>(std::countr_zero(left))));
    }
  }

  bool Choose(uint8_t i) { return IsSteady(i) || ChooseAnew(i); }

 private:
  // What nearly all packets are: in the middle of a connection that is known, found where LookAhead
  // saw it, and about which nothing changes but the time. For these ChooseAnew would do the same.
  bool IsSteady(uint8_t i) {
    Burst& burst = burst_;
    Ahead ahead = ahead_[i];
    if (!FlowTable::IsOf(ahead.entry, burst.hashes[i]) || ahead.backend == nullptr) return false;
    const Flow flow = ahead.entry.flow();
    const Service& service = *burst.services[i];
    const bool is_steady =
        flow.IsConfirmedAndOpen() && !flow.IsTimedOut(clock_) &&
        (burst.packets[i].tcp_flags & (kTcpSyn | kTcpFin | kTcpRst)) == 0 &&
        ahead.backend->id == flow.backend && ahead.backend->service == service.id &&
        ahead.backend->state == BackendState::kUp && service.quic == nullptr &&
        burst.quotes[i] == 0;
    if (!is_steady) return false;
    ahead.entry.Touch(clock_.now);
    burst.backends[i] = ahead.backend;
    burst.lookups[i] = FlowLookup::kHit;
    return true;
  }

  [[gnu::noinline]] bool ChooseAnew(uint8_t i) {
    if (const Backend* backend = ByQuicId(i)) {
      burst_.backends[i] = backend;
      return true;
    }
    if (burst_.quotes[i] != 0) return FollowConnection(i);
    if (const auto entry = flows_.Find(burst_.hashes[i])) return Continue(i, entry);
    if (burst_.packets[i].is_fragment && FindElsewhere(i)) return true;
    return Open(i);
  }

  // The backend that the packet's QUIC connection id names, if it takes packets; else null.
  const Backend* ByQuicId(uint8_t i) const {
    const Service& service = *burst_.services[i];
    if (service.quic == nullptr || burst_.quotes[i] != 0) return nullptr;
    const ParsedPacket& packet = burst_.packets[i];
    const uint8_t* udp = burst_.frames[i].data + packet.ip_offset + packet.transport_offset;
    // The datagram may end before the packet, and goes on in other fragments.
    const uint32_t length =
        std::min<uint32_t>(NetworkOrder(Read<UdpHeader>(udp).length), packet.transport_length());
    const uint32_t index =
        service.quic->FindInPacket(absl::MakeConstSpan(udp, length).subspan(sizeof(UdpHeader)));
    if (index == QuicLb::kNone) return nullptr;
    const Backend& backend = service.backends[index];
    return backend.state == BackendState::kDown ? nullptr : &backend;
  }

  const Backend* ByHash(uint8_t i) const {
    return ChooseByHash(*burst_.services[i], burst_.keys[i].source_address(), burst_.hashes[i], snapshot_.hash_seed());
  }

  // A connection is given away once: by the scheduler when it opens. What comes in the middle of
  // one that nothing is known of goes where every balancer would send it.
  const Backend* ByScheduler(uint8_t i) {
    const bool opens =
        burst_.keys[i].protocol != kProtocolTcp || OpensConnection(burst_.packets[i]);
    if (!opens) return ByHash(i);
    return chooser_.Choose(*burst_.services[i], burst_.keys[i].source_address(), burst_.hashes[i], snapshot_.hash_seed(),
                           [&](BackendId id) { return shared_.LiveConnections(id); });
  }

  // Whether the service's limit lets this connection open. What is in the middle of one may pass.
  bool MayOpen(uint8_t i) {
    const Service& service = *burst_.services[i];
    if (service.new_flows_per_second == 0) return true;
    if (burst_.keys[i].protocol == kProtocolTcp && !OpensConnection(burst_.packets[i])) return true;
    return shared_.new_flows(service.id).Take(service.new_flows_per_second, now_);
  }

  // An ICMP error goes where its connection goes, in whichever worker's table that is.
  bool FollowConnection(uint8_t i) {
    if (FindElsewhere(i)) return true;
    burst_.backends[i] = ByHash(i);
    return burst_.backends[i] != nullptr || burst_.Drop(i, Reason::kNoBackend);
  }

  // The backend of the packet's connection by any worker's table, if it takes such packets.
  bool FindElsewhere(uint8_t i) {
    for (size_t worker = 0; worker < shared_.workers(); ++worker) {
      const std::optional<Flow> flow = shared_.flows(worker).Peek(burst_.hashes[i]);
      if (!flow.has_value() || flow->IsTimedOut(clock_)) continue;
      burst_.backends[i] = BackendOf(*flow, snapshot_, *burst_.services[i], burst_.packets[i]);
      if (burst_.backends[i] == nullptr) continue;
      burst_.lookups[i] = FlowLookup::kHit;
      return true;
    }
    return false;
  }

  // The packet's connection has an entry: keeps its backend, or takes another.
  bool Continue(uint8_t i, FlowTable::Entry entry) {
    const ParsedPacket& packet = burst_.packets[i];
    Flow flow = entry.flow();
    // Another connection with the same addresses and ports, or the same one again.
    const bool is_over = flow.IsTimedOut(clock_) ||
                         (flow.state == FlowState::kTcpClosing && OpensConnection(packet));
    const Backend* backend =
        is_over ? nullptr : BackendOf(flow, snapshot_, *burst_.services[i], packet);
    burst_.lookups[i] = FlowLookup::kHit;
    if (backend == nullptr) {
      backend = ByScheduler(i);
      burst_.lookups[i] = FlowLookup::kNone;
      if (backend == nullptr) return burst_.Drop(i, Reason::kNoBackend);
      if (is_over && !MayOpen(i)) return burst_.Drop(i, Reason::kRateLimited);
      counters_.backend(flow.backend).active_flows.Sub(1);
      counters_.backend(backend->id).active_flows.Add(1);
      flow.backend = backend->id;
      burst_.opened[i] = true;
      burst_.lookups[i] = FlowLookup::kNew;
    }
    if (is_over) {
      flow.state = FirstState(packet, burst_.keys[i].protocol);
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
    burst_.backends[i] = backend;
    return true;
  }

  bool Open(uint8_t i) {
    const Backend* backend = ByScheduler(i);
    if (backend == nullptr) return burst_.Drop(i, Reason::kNoBackend);
    if (!MayOpen(i)) return burst_.Drop(i, Reason::kRateLimited);
    const Flow flow{.backend = backend->id,
                    .state = FirstState(burst_.packets[i], burst_.keys[i].protocol),
                    .unconfirmed = true,
                    .touched = clock_.now};
    const FlowTable::Inserted inserted = flows_.Insert(burst_.hashes[i], flow, clock_);
    // Of a connection without an entry every packet comes here; its first one counts.
    burst_.opened[i] = inserted.stored || OpensConnection(burst_.packets[i]);
    if (inserted.stored) {
      burst_.lookups[i] = FlowLookup::kNew;
      counters_.backend(backend->id).active_flows.Add(1);
      counters_.flows().Add(1);
    } else {
      // Nobody will remember what the scheduler chose; the hash needs no memory.
      backend = ByHash(i);
      if (backend == nullptr) return burst_.Drop(i, Reason::kNoBackend);
      if (burst_.opened[i]) counters_.flows_not_stored().Add(1);
    }
    if (inserted.evicted != kNoBackend) {
      counters_.backend(inserted.evicted).active_flows.Sub(1);
      counters_.flows().Sub(1);
    }
    burst_.backends[i] = backend;
    return true;
  }

  const Snapshot& snapshot_;
  const Nanoseconds now_;
  const FlowClock clock_;
  SharedState& shared_;
  FlowTable& flows_;
  Chooser& chooser_;
  WorkerCounters& counters_;
  Burst& burst_;
  // What LookAhead saw.
  struct Ahead {
    FlowTable::Entry entry;
    const Backend* backend;
  };
  std::array<Ahead, Burst::kSize> ahead_;
  PacketSet unknown_ = 0;
};

}  // namespace

void Choose(const Snapshot& snapshot, Nanoseconds now, SharedState& shared, FlowTable& flows,
            Chooser& chooser, WorkerCounters& counters, Burst& burst) {
  Choosing choosing(snapshot, now, shared, flows, chooser, counters, burst);
  for (PacketSet left = burst.to_choose; left != 0; left &= left - 1) {
    choosing.LookAhead(static_cast<uint8_t>(std::countr_zero(left)));
  }
  choosing.LookFurtherAhead();
  burst.ForUndecided(burst.to_choose, [&](uint8_t i) { return choosing.Choose(i); });
}

}  // namespace guideway

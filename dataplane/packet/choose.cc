#include "dataplane/packet/headers.h"
#include "dataplane/packet/stages.h"
#include "maglev/choice.h"

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
  if (protocol == kProtocolUdp) return FlowState::kUdp;
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

}  // namespace

void Choose(const Snapshot& snapshot, Ticks now, FlowTable& flows, Chooser& chooser,
            WorkerCounters& counters, std::span<const WorkerCounters* const> all_workers,
            Burst& burst) {
  const FlowClock clock(now, snapshot.timeouts());

  const auto by_hash = [&](uint8_t i) {
    return ChooseByHash(*burst.services[i], burst.packets[i].source, burst.hashes[i],
                        snapshot.hash_seed());
  };
  const auto live = [&](BackendId id) {
    uint64_t flows_of_all = 0;
    for (const WorkerCounters* worker : all_workers) {
      flows_of_all += worker->backend_counts(id).active_flows;
    }
    return flows_of_all;
  };
  // A connection is given away once: by the scheduler when it opens. What comes in the middle of
  // one that nothing is known of goes where every balancer would send it.
  const auto choose = [&](uint8_t i) {
    const bool opens = burst.keys[i].protocol != kProtocolTcp || OpensConnection(burst.packets[i]);
    if (!opens) return by_hash(i);
    return chooser.Choose(*burst.services[i], burst.packets[i].source, burst.hashes[i],
                          snapshot.hash_seed(), live);
  };

  // The packet's connection has an entry: keeps its backend, or takes another.
  const auto continue_flow = [&](uint8_t i, FlowTable::Entry& entry) {
    const ParsedPacket& packet = burst.packets[i];
    Flow flow = entry.flow();
    // Another connection with the same addresses and ports, or the same one again.
    const bool is_over =
        flow.IsTimedOut(clock) || (flow.state == FlowState::kTcpClosing && OpensConnection(packet));
    const Backend* backend =
        is_over ? nullptr : BackendOf(flow, snapshot, *burst.services[i], packet);
    if (backend == nullptr) {
      backend = choose(i);
      if (backend == nullptr) return false;
      counters.backend(flow.backend).active_flows.Sub(1);
      counters.backend(backend->id).active_flows.Add(1);
      flow.backend = backend->id;
      burst.opened[i] = true;
    }
    if (is_over) {
      flow.state = FirstState(packet, burst.keys[i].protocol);
      flow.unconfirmed = true;
      flow.touched = now;
    } else {
      flow.state = NextState(flow.state, packet);
      if (flow.unconfirmed && now - flow.touched >= kTicksPerSecond) flow.unconfirmed = false;
      if (!flow.unconfirmed) flow.touched = now;
    }
    entry.Update(flow);
    burst.backends[i] = backend;
    return true;
  };

  const auto open_flow = [&](uint8_t i) {
    const Backend* backend = choose(i);
    if (backend == nullptr) return false;
    const Flow flow{.backend = backend->id,
                    .state = FirstState(burst.packets[i], burst.keys[i].protocol),
                    .unconfirmed = true,
                    .touched = now};
    const FlowTable::Inserted inserted = flows.Insert(burst.hashes[i], flow, clock);
    // Of a connection without an entry every packet comes here; its first one counts.
    burst.opened[i] = inserted.stored || OpensConnection(burst.packets[i]);
    if (inserted.stored) {
      counters.backend(backend->id).active_flows.Add(1);
      counters.flows().Add(1);
    } else {
      // Nobody will remember what the scheduler chose; the hash needs no memory.
      backend = by_hash(i);
      if (backend == nullptr) return false;
      if (burst.opened[i]) counters.flows_not_stored().Add(1);
    }
    if (inserted.evicted != kNoBackend) {
      counters.backend(inserted.evicted).active_flows.Sub(1);
      counters.flows().Sub(1);
    }
    burst.backends[i] = backend;
    return true;
  };

  burst.ForUndecided([&](uint8_t i) {
    FlowTable::Entry* entry = flows.Find(burst.hashes[i]);
    const bool chosen = entry != nullptr ? continue_flow(i, *entry) : open_flow(i);
    return chosen || burst.Drop(i, Reason::kNoBackend);
  });
}

}  // namespace guideway

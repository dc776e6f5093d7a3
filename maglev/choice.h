// The choice: which backend a connection gets.
//
//   ChooseByHash    a pure function of Snapshot and packet: what all balancers agree on
//   Chooser         for connections that open: the service's scheduler, whichever it is
//
// What a flow table remembers comes before either (dataplane/packet/choose.cc).
#ifndef GUIDEWAY_MAGLEV_CHOICE_H_
#define GUIDEWAY_MAGLEV_CHOICE_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "maglev/flow_hash.h"
#include "maglev/snapshot.h"

namespace guideway {

// The region of a client, where a service has regions; and its slot's hash, where connections of a
// client belong together.
uint16_t RegionOf(const Service& service, const IpAddress& client);
uint64_t HashByAffinity(const Affinity& affinity, const IpAddress& client, uint64_t hash_seed);

// The pool that serves this client now, and the slot of its table that the connection is in.
struct TableSlot {
  const Pool* pool;
  uint32_t slot;
};
inline TableSlot FindSlot(const Service& service, const IpAddress& client, const FlowHash& hash,
                          uint64_t hash_seed) {
  const uint16_t region = service.regions == nullptr ? 0 : RegionOf(service, client);
  const Pool& pool = service.pools[service.pools[region].stand_in];
  const uint64_t slot_hash =
      service.affinity.to_client ? HashByAffinity(service.affinity, client, hash_seed) : hash.slot;
  return {&pool, SlotOf(slot_hash, static_cast<uint32_t>(pool.assignment->size()))};
}

// The backend that the lookup table names, whatever the scheduler; null if none of its pool takes
// new connections.
inline const Backend* ChooseByHash(const Service& service, const IpAddress& client,
                                   const FlowHash& hash, uint64_t hash_seed) {
  const TableSlot found = FindSlot(service, client, hash, hash_seed);
  const LookupTable::Member member = (*found.pool->assignment)[found.slot];
  if (member == LookupTable::kNoMember) return nullptr;
  return &service.backends[found.pool->first + member];
}

// How many connections a backend has, all workers together.
using LiveConnections = absl::FunctionRef<uint64_t(BackendId)>;

// One worker's part in the schedulers that are no hash: whose turn it is, and what chance says.
// Not to be shared between threads.
class Chooser {
 public:
  // Choosers with different seeds start at different turns; with the same, they do the same.
  explicit Chooser(uint64_t seed);

  // The backend of a connection that opens, or null if none takes new connections.
  const Backend* Choose(const Service& service, const IpAddress& client, const FlowHash& hash,
                        uint64_t hash_seed, LiveConnections live);

 private:
  uint64_t NextRandom();
  const Backend& LessLoaded(const Service& service, LiveConnections live);

  uint64_t random_;
  std::vector<uint32_t> turns_;  // the next, by ServiceId
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_CHOICE_H_

// Small numbers for names: which ServiceId a service has, which BackendId a backend.
//
// A name keeps its id for as long as it is wanted. An id whose name is gone may still stand in
// flow tables, so it rests until every worker has swept its table under a Snapshot without it;
// then it goes to the next name that asks, lowest first, so that ids stay dense. A name that
// comes back while its id rests gets the same id again: connections that flow tables still know
// go on.
//
//   free ──Acquire──► in use ──Commit without it──► resting ──Reclaim(swept ≥ version)──► free
//                       ▲                              │
//                       └───────────Acquire────────────┘
//
// Used in rounds: Acquire every name of the Snapshot to be, then either Commit, when it is
// published, or Abort, when it will never be.
//
// Not thread-safe: the control thread's.
#ifndef GUIDEWAY_CONTROL_ID_ALLOCATOR_H_
#define GUIDEWAY_CONTROL_ID_ALLOCATOR_H_

#include <cstdint>
#include <deque>
#include <set>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace guideway {

class IdAllocator {
 public:
  struct Id {
    uint32_t value;
    bool is_new;  // the name had none, neither in use nor resting: counts start from here
  };

  // Ids are 0 to `limit` - 1.
  explicit IdAllocator(uint32_t limit) : limit_(limit) {}

  IdAllocator(const IdAllocator&) = delete;
  IdAllocator& operator=(const IdAllocator&) = delete;

  // The id of `name`. ResourceExhausted when none is free.
  absl::StatusOr<Id> Acquire(const std::string& name);
  // The same for the name that has `id`, in use or resting.
  Id AcquireAgain(uint32_t id);

  // The Snapshot `version` (from 1) is published. The names of this round are in use; ids in use
  // whose names were not acquired in this round rest from now on.
  void Commit(uint64_t version);

  // Everything is as it was before this round.
  void Abort();

  // Every worker has swept its flow table under the Snapshot `swept_version` or a later one.
  void Reclaim(uint64_t swept_version);

  size_t in_use() const { return ids_.size() - resting_.size(); }
  size_t resting() const { return resting_.size(); }

 private:
  enum class State : uint8_t { kFree, kInUse, kResting };
  struct Entry {
    std::string name;             // unless it is free
    uint64_t round = 0;           // the last one that wanted it
    uint64_t resting_since = 0;   // version it was last retired at
    State state = State::kFree;   // now
    State before = State::kFree;  // that round
  };
  // An id counts as its name.
  struct ByName {
    using is_transparent = void;
    absl::string_view NameOf(uint32_t id) const { return (*entries)[id].name; }
    absl::string_view NameOf(absl::string_view name) const { return name; }
    size_t operator()(const auto& key) const { return absl::HashOf(NameOf(key)); }
    bool operator()(const auto& a, const auto& b) const { return NameOf(a) == NameOf(b); }

    const std::deque<Entry>* entries;
  };

  void Rest(uint32_t id);
  void Free(uint32_t id);

  const uint32_t limit_;
  uint64_t round_ = 1;         // the one that is open
  std::deque<Entry> entries_;  // by id; none from its end on was ever given out
  std::set<uint32_t> free_, resting_;
  absl::flat_hash_set<uint32_t, ByName, ByName> ids_{0, ByName{&entries_}, ByName{&entries_}};
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_ID_ALLOCATOR_H_

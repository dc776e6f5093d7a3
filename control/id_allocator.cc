#include "control/id_allocator.h"

#include <glog/logging.h>

#include <vector>

#include "absl/strings/str_cat.h"

namespace guideway {

absl::StatusOr<IdAllocator::Id> IdAllocator::Acquire(const std::string& name) {
  if (const auto it = ids_.find(absl::string_view(name)); it != ids_.end()) {
    return AcquireAgain(*it);
  }
  uint32_t id;
  if (!free_.empty()) {
    id = *free_.begin();
    free_.erase(free_.begin());
  } else if (entries_.size() < limit_) {
    id = static_cast<uint32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    return absl::ResourceExhaustedError(absl::StrCat("\"", name, "\" gets no id: of ", limit_,
                                                     " there are ", in_use(), " in use and ",
                                                     resting(), " still in flow tables"));
  }
  entries_[id] = {.name = name, .round = round_, .state = State::kInUse};
  ids_.insert(id);
  return Id{id, true};
}

IdAllocator::Id IdAllocator::AcquireAgain(uint32_t id) {
  CHECK(id < entries_.size() && entries_[id].state != State::kFree) << "nobody has the id " << id;
  Entry& entry = entries_[id];
  if (entry.round != round_) entry.before = entry.state;
  entry.round = round_;
  entry.state = State::kInUse;
  resting_.erase(id);
  return {id, entry.before == State::kFree};
}

void IdAllocator::Commit(uint64_t version) {
  for (const uint32_t id : ids_) {
    Entry& entry = entries_[id];
    if (entry.state != State::kInUse || entry.round == round_) continue;
    entry.resting_since = version;
    Rest(id);
  }
  ++round_;
}

void IdAllocator::Abort() {
  const std::vector<uint32_t> ids(ids_.begin(), ids_.end());  // some of which go
  for (const uint32_t id : ids) {
    const Entry& entry = entries_[id];
    if (entry.round != round_ || entry.before == State::kInUse) continue;
    entry.before == State::kResting ? Rest(id) : Free(id);
  }
  ++round_;
}

void IdAllocator::Reclaim(uint64_t swept_version) {
  for (auto it = resting_.begin(); it != resting_.end();) {
    const uint32_t id = *it++;
    if (entries_[id].resting_since > swept_version) continue;
    resting_.erase(id);
    Free(id);
  }
}

void IdAllocator::Rest(uint32_t id) {
  entries_[id].state = State::kResting;
  resting_.insert(id);
}

void IdAllocator::Free(uint32_t id) {
  ids_.erase(id);
  entries_[id] = {};
  free_.insert(id);
}

}  // namespace guideway

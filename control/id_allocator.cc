#include "control/id_allocator.h"

#include "absl/strings/str_cat.h"

namespace guideway {

absl::StatusOr<IdAllocator::Id> IdAllocator::Acquire(const std::string& name) {
  if (auto it = in_use_.find(name); it != in_use_.end()) {
    Entry& entry = it->second;
    const bool again = entry.round == round_;
    if (!again) entry.before = Before::kInUse;
    entry.round = round_;
    return Id{entry.id, again && entry.before == Before::kFree};
  }
  if (auto it = resting_.find(name); it != resting_.end()) {
    Entry entry = it->second;
    resting_.erase(it);
    entry.round = round_;
    entry.before = Before::kResting;
    in_use_.emplace(name, entry);
    return Id{entry.id, false};
  }
  uint32_t id;
  if (!free_.empty()) {
    id = *free_.begin();
    free_.erase(free_.begin());
  } else if (next_ < limit_) {
    id = next_++;
  } else {
    return absl::ResourceExhaustedError(absl::StrCat("\"", name, "\" gets no id: of ", limit_,
                                                     " there are ", in_use_.size(), " in use and ",
                                                     resting_.size(), " still in flow tables"));
  }
  in_use_.emplace(name, Entry{.id = id, .round = round_, .before = Before::kFree});
  return Id{id, true};
}

void IdAllocator::Commit(uint64_t version) {
  for (auto it = in_use_.begin(); it != in_use_.end();) {
    if (it->second.round == round_) {
      ++it;
      continue;
    }
    it->second.resting_since = version;
    resting_.emplace(it->first, it->second);
    in_use_.erase(it++);
  }
  ++round_;
}

void IdAllocator::Abort() {
  for (auto it = in_use_.begin(); it != in_use_.end();) {
    const Entry& entry = it->second;
    if (entry.round != round_ || entry.before == Before::kInUse) {
      ++it;
      continue;
    }
    if (entry.before == Before::kFree) {
      free_.insert(entry.id);
    } else {
      resting_.emplace(it->first, entry);
    }
    in_use_.erase(it++);
  }
  ++round_;
}

void IdAllocator::Reclaim(uint64_t swept_version) {
  for (auto it = resting_.begin(); it != resting_.end();) {
    if (it->second.resting_since > swept_version) {
      ++it;
      continue;
    }
    free_.insert(it->second.id);
    resting_.erase(it++);
  }
}

}  // namespace guideway

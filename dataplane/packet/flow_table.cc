#include "dataplane/packet/flow_table.h"

#include <algorithm>
#include <bit>

namespace guideway {
namespace {

// How readily an entry is given up: one of rank 0 never, unconfirmed ones by age in ticks, and
// before them what counts no longer.
constexpr uint64_t kUnconfirmed = uint64_t{1} << 32;
constexpr uint64_t kTimedOut = uint64_t{1} << 33;
constexpr uint64_t kFree = uint64_t{1} << 34;

}  // namespace

// Free in between, for those who read it meanwhile.
void FlowTable::Entry::Set(uint64_t fingerprint, const Flow& flow) {
  word_->store(0, std::memory_order_relaxed);
  word_[kWays].store(std::bit_cast<uint64_t>(flow), std::memory_order_release);
  word_->store(fingerprint, std::memory_order_release);
}

FlowTable::FlowTable(size_t entries, PageSize page_size)
    : lines_(std::bit_ceil(std::max<size_t>(entries, 2 * kWays)) / kWays, page_size),
      mask_(lines_.size() - 1) {}

std::optional<Flow> FlowTable::Peek(const FlowHash& hash) const {
  const uint64_t fingerprint = hash.flow;
  const size_t first = FirstLine(hash);
  for (size_t line : {first, OtherLine(first, fingerprint)}) {
    for (size_t way = 0; way < kWays; ++way) {
      const std::atomic<uint64_t>* word = &lines_[line].words[way];
      if (word->load(std::memory_order_acquire) != fingerprint) continue;
      const uint64_t flow = word[kWays].load(std::memory_order_acquire);
      if (word->load(std::memory_order_relaxed) == fingerprint) return std::bit_cast<Flow>(flow);
    }
  }
  return std::nullopt;
}

// Without branches on what the entries in use are: nobody can predict it.
FlowTable::Candidate FlowTable::BestOf(const Line& line, const FlowClock& clock) {
  if (const unsigned free = WaysOf(line, 0); free != 0) return {FirstOf(free), kFree};
  Candidate best = {0, 0};
  for (size_t way = 0; way < kWays; ++way) {
    const uint64_t word = line.words[kWays + way].load(std::memory_order_relaxed);
    const auto flow = std::bit_cast<Flow>(word);
    const Ticks age = clock.now - flow.touched;
    uint64_t rank = flow.unconfirmed ? kUnconfirmed + age : 0;
    rank = age > clock.timeout[static_cast<size_t>(flow.state)] ? kTimedOut : rank;
    best = rank > best.rank ? Candidate{way, rank} : best;
  }
  return best;
}

FlowTable::Inserted FlowTable::Insert(const FlowHash& hash, const Flow& flow,
                                      const FlowClock& clock) {
  const uint64_t fingerprint = hash.flow;
  const size_t first = FirstLine(hash);
  const std::array<size_t, 2> lines = {first, OtherLine(first, fingerprint)};
  // Gives the place up, if it is in use, to that connection.
  const auto put = [&](Entry entry, uint64_t tag, const Flow& what) {
    const BackendId evicted = entry.is_free() ? kNoBackend : entry.flow().backend;
    used_ += entry.is_free() ? 1 : 0;
    entry.Set(tag, what);
    return Inserted{true, evicted};
  };

  std::array<Candidate, 2> best;
  for (size_t n : {0, 1}) {
    best[n] = BestOf(lines_[lines[n]], clock);
    if (best[n].rank >= kTimedOut) {
      return put(Entry(lines_[lines[n]], best[n].way), fingerprint, flow);
    }
  }
  const size_t older = best[1].rank > best[0].rank ? 1 : 0;
  const bool is_nearly_full = used_ > capacity() - capacity() / 16;
  if (!is_nearly_full || best[older].rank == 0) {
    for (size_t line : lines) {
      for (size_t way = 0; way < kWays; ++way) {
        Entry entry(lines_[line], way);
        Line& other = lines_[OtherLine(line, entry.fingerprint())];
        const Candidate room = BestOf(other, clock);
        if (room.rank < kTimedOut) continue;
        const Inserted inserted = put(Entry(other, room.way), entry.fingerprint(), entry.flow());
        entry.Set(fingerprint, flow);
        return inserted;
      }
    }
  }
  if (best[older].rank == 0) return {false, kNoBackend};
  Inserted inserted = put(Entry(lines_[lines[older]], best[older].way), fingerprint, flow);
  inserted.was_live = true;
  return inserted;
}

}  // namespace guideway

#include "dataplane/packet/flow_table.h"

#include <algorithm>
#include <bit>

namespace guideway {
namespace {

// How readily an entry is given up: one of rank 0 never, unconfirmed ones by age in ticks, and
// before them what counts no longer.
constexpr uint64_t kTimedOut = uint64_t{1} << 33;
constexpr uint64_t kFree = uint64_t{1} << 34;

// A bit for each 32-bit lane that is all ones.
unsigned MaskOf(__m128i lanes) {
  return static_cast<unsigned>(_mm_movemask_ps(_mm_castsi128_ps(lanes)));
}

}  // namespace

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

// All four at once: nobody can predict what the entries in use are.
[[gnu::always_inline]] inline FlowTable::Candidate FlowTable::BestOf(const Line& line,
                                                                     const FlowClock& clock) {
  if (const unsigned free = WaysOf(line, 0); free != 0) return {FirstOf(free), kFree};
  const auto* flows = reinterpret_cast<const __m128*>(&line.words[kWays]);
  const __m128i said = _mm_castps_si128(_mm_shuffle_ps(flows[0], flows[1], 0x88));
  const __m128i touched = _mm_castps_si128(_mm_shuffle_ps(flows[0], flows[1], 0xdd));
  const __m128i age = _mm_sub_epi32(_mm_set1_epi32(static_cast<int>(clock.now)), touched);

  // The four bytes of the timeout of each one's state, which is above its 24 bits of backend.
  static_assert(kFlowStates == 4 && sizeof(clock.timeout) == sizeof(__m128i));
  const __m128i state = _mm_and_si128(_mm_srli_epi32(said, 24), _mm_set1_epi32(0x7f));
  const __m128i bytes =
      _mm_add_epi32(_mm_mullo_epi32(state, _mm_set1_epi32(0x04040404)), _mm_set1_epi32(0x03020100));
  const __m128i timeout = _mm_shuffle_epi8(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(clock.timeout.data())), bytes);
  const __m128i counts = _mm_cmpeq_epi32(_mm_min_epu32(age, timeout), age);
  if (const unsigned timed_out = ~MaskOf(counts) & 0xf; timed_out != 0) {
    return {FirstOf(timed_out), kTimedOut};
  }

  // The topmost bit: unconfirmed.
  const __m128i rank = _mm_and_si128(_mm_srai_epi32(said, 31), _mm_sub_epi32(age, counts));
  __m128i highest = _mm_max_epu32(rank, _mm_shuffle_epi32(rank, 0xb1));
  highest = _mm_max_epu32(highest, _mm_shuffle_epi32(highest, 0x4e));
  return {FirstOf(MaskOf(_mm_cmpeq_epi32(rank, highest))),
          static_cast<uint32_t>(_mm_cvtsi128_si32(highest))};
}

// Moves a neighbour to its other line if there is room, and what was there to its place.
[[gnu::noinline]] FlowTable::Entry FlowTable::MoveOne(const std::array<Line*, 2>& lines,
                                                      const FlowClock& clock) {
  for (Line* from : lines) {
    for (size_t way = 0; way < kWays; ++way) {
      Entry entry(*from, way);
      const auto at = static_cast<size_t>(from - &lines_[0]);
      Line& to = lines_[OtherLine(at, entry.fingerprint())];
      const Candidate room = BestOf(to, clock);
      if (room.rank < kTimedOut) continue;
      Entry other(to, room.way);
      const uint64_t fingerprint = other.fingerprint();
      const Flow flow = other.is_free() ? Flow{} : other.flow();  // of nobody, for ReadPlaces
      other.Set(entry.fingerprint(), entry.flow());
      entry.Set(fingerprint, flow);
      return entry;
    }
  }
  return Entry::None();
}

FlowTable::Entry FlowTable::FindPlace(const FlowHash& hash, const FlowClock& clock) {
  const size_t first = FirstLine(hash);
  Line& line = lines_[first];
  const Candidate here = BestOf(line, clock);
  if (here.rank >= kTimedOut) return Entry(line, here.way);
  Line& other_line = lines_[OtherLine(first, hash.flow)];
  const Candidate there = BestOf(other_line, clock);
  if (there.rank >= kTimedOut) return Entry(other_line, there.way);
  const bool is_one_unconfirmed = (here.rank | there.rank) != 0;
  const bool is_nearly_full = used_ > capacity() - capacity() / 16;
  if (!is_nearly_full || !is_one_unconfirmed) {
    if (const Entry place = MoveOne({&line, &other_line}, clock)) return place;
  }
  if (!is_one_unconfirmed) return Entry::None();
  return there.rank > here.rank ? Entry(other_line, there.way) : Entry(line, here.way);
}

}  // namespace guideway

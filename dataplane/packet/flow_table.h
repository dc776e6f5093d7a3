// The connections of one worker: which backend each was given to.
//
// A fixed number of 16-byte entries, four to a cache line, taken once at start. An entry is in one
// of two lines, which its hash names:
//
//   line   | fingerprints 0 | 1 | 2 | 3 | flows 0 | 1 | 2 | 3 |             64 bytes
//   flow   | touched : 32 | unconfirmed : 1 | state : 7 | backend : 24 |    8 bytes
//
// first line = low bits of hash.slot; second line = first xor bits of the fingerprint, so that the
// other line of an entry can be told from the entry alone. The fingerprint is hash.flow, 64 bits
// that neither line is taken from: a lookup compares at most 8, so a new connection is taken for
// another with a chance below 2^-61. It is never 0, which marks a free entry.
//
// FindPlace finds a place that is free or timed out, else moves one neighbour to its other line,
// else names an unconfirmed one. It can fail, and then nothing is lost but the memory of the
// connection: its packets go where the lookup table says. In a table that is nearly full, a
// neighbour's other line is most likely full as well, and eight cache misses far: there it goes
// straight to the unconfirmed one, if there is one.
//
// Unconfirmed. Only the client's side is seen, so an entry proves little: anybody can send a SYN or
// a bare ACK. A new entry is unconfirmed until a packet of its connection comes a second or more
// after it was made, and only unconfirmed entries are ever evicted. So a flood displaces its like.
//
// One writer, the worker. Others may read any entry at any time as two 8-byte loads; the pair may
// then be of two different connections. Peek looks twice, so that its answer is of the one asked
// for. Time is in ticks that the caller passes in; ages are differences, so the clock may wrap.
#ifndef GUIDEWAY_DATAPLANE_PACKET_FLOW_TABLE_H_
#define GUIDEWAY_DATAPLANE_PACKET_FLOW_TABLE_H_

#include <smmintrin.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "dataplane/flow_entry.h"
#include "dataplane/packet/clock.h"
#include "maglev/flow_hash.h"
#include "maglev/pages.h"
#include "maglev/snapshot.h"

namespace guideway {

// The time of a burst and the timeouts in force: what says whether an entry still counts.
struct FlowClock {
  FlowClock(Ticks now, const FlowTimeouts& timeouts)
      : now(now),
        timeout{timeouts.tcp_handshake_s * kTicksPerSecond,
                timeouts.tcp_established_s * kTicksPerSecond,
                timeouts.tcp_closing_s * kTicksPerSecond, timeouts.udp_s * kTicksPerSecond} {}

  Ticks now;
  std::array<Ticks, kFlowStates> timeout;  // by FlowState
};

// What an entry says of its connection.
struct Flow {
  BackendId backend : 24 = kNoBackend;
  FlowState state : 7 = FlowState::kTcpHandshake;
  bool unconfirmed : 1 = true;
  Ticks touched = 0;  // last packet; of an unconfirmed one, the first

  // Put together as one word: fields stored one by one and then read as a whole would have to wait
  // for each other.
  static Flow Of(BackendId backend, FlowState state, bool unconfirmed, Ticks touched) {
    return std::bit_cast<Flow>(uint64_t{touched} << 32 | uint64_t{unconfirmed} << 31 |
                               static_cast<uint64_t>(state) << 24 | backend);
  }
  bool IsTimedOut(const FlowClock& clock) const {
    return clock.now - touched > clock.timeout[static_cast<size_t>(state)];
  }
  friend bool operator==(const Flow&, const Flow&) = default;
};
static_assert(sizeof(Flow) == 8 && std::has_unique_object_representations_v<Flow>);

class FlowTable {
  static constexpr size_t kWays = 4;
  // First the fingerprints, then the flows.
  struct alignas(64) Line {
    std::array<std::atomic<uint64_t>, 2 * kWays> words;
  };
  static_assert(sizeof(Line) == 64, "one line of the table, one of cache");

 public:
  // A place in the table, or none. What is in it may be read and changed until FindPlace.
  class Entry {
   public:
    Entry() = default;  // any place: to be assigned to
    static Entry None() { return Entry(nullptr); }
    explicit operator bool() const { return word_ != nullptr; }
    bool is_free() const { return fingerprint() == 0; }
    uint64_t fingerprint() const { return word_->load(std::memory_order_relaxed); }
    Flow flow() const { return std::bit_cast<Flow>(word_[kWays].load(std::memory_order_relaxed)); }
    // Only time has changed.
    void Touch(Ticks now) {
      const uint64_t word = word_[kWays].load(std::memory_order_relaxed);
      word_[kWays].store((word & 0xffffffff) | uint64_t{now} << 32, std::memory_order_relaxed);
    }
    // Writes only if something changed: a hit within a tick leaves the line clean.
    void Update(const Flow& flow) {
      const auto word = std::bit_cast<uint64_t>(flow);
      if (word_[kWays].load(std::memory_order_relaxed) != word) {
        word_[kWays].store(word, std::memory_order_relaxed);
      }
    }

   private:
    friend class FlowTable;
    explicit Entry(std::nullptr_t) : word_(nullptr) {}
    Entry(Line& line, size_t way) : word_(&line.words[way]) {}
    // Free in between, for those who read it meanwhile.
    void Set(uint64_t fingerprint, Flow flow) {
      word_->store(0, std::memory_order_relaxed);
      word_[kWays].store(std::bit_cast<uint64_t>(flow), std::memory_order_release);
      word_->store(fingerprint, std::memory_order_release);
    }

    std::atomic<uint64_t>* word_;  // that of the fingerprint
  };

  // Room for `entries`, rounded up to a power of two, at least 8.
  FlowTable(size_t entries, PageSize page_size);

  // Where each of the two lines begins in which the connection may be; most are in the first.
  // Brings it closer.
  Entry ExpectFirst(const FlowHash& hash) { return Expect(FirstLine(hash)); }
  Entry ExpectOther(const FlowHash& hash) { return Expect(OtherLine(FirstLine(hash), hash.flow)); }
  // The entry of this connection if it is in the line that was expected.
  static Entry Glance(const Entry& expected, const FlowHash& hash) {
    auto& line = reinterpret_cast<Line&>(*expected.word_);
    const unsigned ways = WaysOf(line, hash.flow);
    return ways == 0 ? Entry(nullptr) : Entry(line, FirstOf(ways));
  }

  // The entry of this connection, timed out or not, or none.
  Entry Find(const FlowHash& hash) {
    const uint64_t fingerprint = hash.flow;
    size_t line = FirstLine(hash);
    unsigned ways = WaysOf(lines_[line], fingerprint);
    if (ways == 0) {
      line = OtherLine(line, fingerprint);
      ways = WaysOf(lines_[line], fingerprint);
      if (ways == 0) return Entry(nullptr);
    }
    return Entry(lines_[line], FirstOf(ways));
  }
  // Whether the entry, found before, is this connection's still.
  static bool IsOf(const Entry& entry, const FlowHash& hash) {
    return entry && entry.fingerprint() == hash.flow;
  }
  // What the entry of this connection says, timed out or not, for a reader on any thread.
  std::optional<Flow> Peek(const FlowHash& hash) const;

  // Calls tell(flow) for the entries at the places [first, last) of `capacity`, timed out or not;
  // on any thread. One that is moved meanwhile may be told twice, or not at all.
  template <typename Tell>
  void ReadPlaces(size_t first, size_t last, Tell tell) const {
    for (size_t place = first; place < last; ++place) {
      const std::atomic<uint64_t>* word = &lines_[place / kWays].words[place % kWays];
      if (word->load(std::memory_order_acquire) == 0) continue;
      // Whichever connection has the place by now, this is what it has to say; none if it was
      // freed.
      const auto flow = std::bit_cast<Flow>(word[kWays].load(std::memory_order_relaxed));
      if (flow.backend != kNoBackend) tell(flow);
    }
  }

  // A place for a connection that Find did not find: a free one, or one of a connection that has
  // timed out or is unconfirmed; or none. It is for Put, and nothing else before that: a neighbour
  // may have changed places with one that has timed out, whom Find would not find there.
  Entry FindPlace(const FlowHash& hash, const FlowClock& clock);
  // Gives the place to the connection. Returns what was said there of the one before; of
  // kNoBackend, if the place was free.
  Flow Put(Entry place, const FlowHash& hash, Flow flow) {
    const bool was_free = place.is_free();
    // One word: the choice between two Flows would be made field by field, in memory, and read
    // back.
    const auto before = std::bit_cast<uint64_t>(was_free ? Flow{} : place.flow());
    used_ += was_free ? 1 : 0;
    place.Set(hash.flow, flow);
    return std::bit_cast<Flow>(before);
  }
  // Both. Nothing, if there is no place.
  std::optional<Flow> Insert(const FlowHash& hash, Flow flow, const FlowClock& clock) {
    const Entry place = FindPlace(hash, clock);
    return place ? std::optional(Put(place, hash, flow)) : std::nullopt;
  }

  // Frees the entries of one line for which `keep` is false, after telling `freed` of each.
  template <typename Keep, typename Freed>
  void SweepLine(size_t line, Keep keep, Freed freed) {
    for (size_t way = 0; way < kWays; ++way) {
      Entry entry(lines_[line], way);
      if (entry.is_free()) continue;
      const Flow flow = entry.flow();
      if (keep(flow)) continue;
      freed(flow);
      entry.Set(0, Flow{});
      --used_;
    }
  }

  size_t lines() const { return lines_.size(); }
  size_t capacity() const { return lines_.size() * kWays; }
  bool uses_huge_pages() const { return lines_.is_huge(); }

 private:
  Entry Expect(size_t line) {
    __builtin_prefetch(&lines_[line]);
    return Entry(lines_[line], 0);
  }
  size_t FirstLine(const FlowHash& hash) const { return hash.slot & mask_; }
  size_t OtherLine(size_t line, uint64_t fingerprint) const {
    return line ^ (((fingerprint >> 32) | 1) & mask_);
  }

  // The ways of the line that hold the fingerprint, a bit each: all four compared at once, since
  // nobody can predict which it is. For the one thread that writes.
  static unsigned WaysOf(const Line& line, uint64_t fingerprint) {
    const auto* words = reinterpret_cast<const __m128i*>(&line);
    const __m128i wanted = _mm_set1_epi64x(static_cast<int64_t>(fingerprint));
    const __m128i low = _mm_cmpeq_epi64(_mm_load_si128(words), wanted);
    const __m128i high = _mm_cmpeq_epi64(_mm_load_si128(words + 1), wanted);
    return static_cast<unsigned>(_mm_movemask_ps(_mm_castsi128_ps(_mm_packs_epi32(low, high))));
  }
  static size_t FirstOf(unsigned ways) { return static_cast<size_t>(__builtin_ctz(ways)); }

  // Of the entries of a line the one to give up first, and how readily.
  struct Candidate {
    size_t way;
    uint64_t rank;
  };
  static Candidate BestOf(const Line& line, const FlowClock& clock);
  Entry MoveOne(const std::array<Line*, 2>& lines, const FlowClock& clock);

  PageArray<Line> lines_;
  size_t mask_;
  size_t used_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_FLOW_TABLE_H_

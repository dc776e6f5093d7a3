// The connections of one worker: which backend each was given to.
//
// A fixed number of 16-byte entries, four to a cache line, taken once at start. An entry is in one
// of two lines, which its hash names:
//
//   line   | fingerprint 0 | flow 0 | fingerprint 1 | flow 1 | … 2 | … 3 |     64 bytes
//   flow   | touched : 32 | unconfirmed : 1 | state : 7 | backend : 24 |       8 bytes
//
// first line = low bits of hash.slot; second line = first xor bits of the fingerprint, so that the
// other line of an entry can be told from the entry alone. The fingerprint is hash.flow, 64 bits
// that neither line is taken from: a lookup compares at most 8, so a new connection is taken for
// another with a chance below 2^-61. A fingerprint of 0 marks a free entry.
//
// Insert puts an entry where one is free or timed out, else moves one neighbour to its other line,
// else evicts an unconfirmed one. It can fail, and then nothing is lost but the memory of the
// connection: its packets go where the lookup table says.
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

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dataplane/packet/clock.h"
#include "dataplane/packet/pages.h"
#include "maglev/flow_hash.h"
#include "maglev/snapshot.h"

namespace guideway {

enum class FlowState : uint8_t { kTcpHandshake, kTcpEstablished, kTcpClosing, kUdp };
inline constexpr size_t kFlowStates = 4;

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
  BackendId backend = kNoBackend;
  FlowState state = FlowState::kTcpHandshake;
  bool unconfirmed = true;
  Ticks touched = 0;  // last packet; of an unconfirmed one, the first

  bool IsTimedOut(const FlowClock& clock) const {
    return clock.now - touched > clock.timeout[static_cast<size_t>(state)];
  }
  friend bool operator==(const Flow&, const Flow&) = default;
};

class FlowTable {
 public:
  class Entry {
   public:
    bool is_free() const { return fingerprint() == 0; }
    uint64_t fingerprint() const { return fingerprint_.load(std::memory_order_relaxed); }
    Flow flow() const;
    // Writes only if something changed: a hit within a tick leaves the line clean.
    void Update(const Flow& flow);

   private:
    friend class FlowTable;
    void Set(uint64_t fingerprint, const Flow& flow);

    std::atomic<uint64_t> fingerprint_;
    std::atomic<uint64_t> flow_;
  };

  // Room for `entries`, rounded up to a power of two, at least 8.
  FlowTable(size_t entries, PageSize page_size);

  void Prefetch(const FlowHash& hash) const {
    __builtin_prefetch(&lines_[FirstLine(hash)]);
    __builtin_prefetch(&lines_[OtherLine(FirstLine(hash), Fingerprint(hash))]);
  }

  // The entry of this connection, timed out or not; null if there is none. Valid until Insert.
  Entry* Find(const FlowHash& hash);
  // What the entry of this connection says, timed out or not, for a reader on any thread.
  std::optional<Flow> Peek(const FlowHash& hash) const;

  struct Inserted {
    bool stored;
    BackendId evicted;  // whose connection had to go, timed out or unconfirmed; or kNoBackend
  };
  // Adds a connection that Find did not find.
  Inserted Insert(const FlowHash& hash, const Flow& flow, const FlowClock& clock);

  // Frees the entries of one line for which `keep` is false, after telling `freed` of each.
  template <typename Keep, typename Freed>
  void SweepLine(size_t line, Keep keep, Freed freed) {
    for (Entry& entry : lines_[line].entries) {
      if (entry.is_free()) continue;
      const Flow flow = entry.flow();
      if (keep(flow)) continue;
      freed(flow);
      entry.Set(0, Flow{});
    }
  }

  size_t lines() const { return lines_.size(); }
  size_t capacity() const { return lines_.size() * kEntriesPerLine; }
  bool uses_huge_pages() const { return lines_.is_huge(); }

 private:
  static constexpr size_t kEntriesPerLine = 4;
  struct alignas(64) Line {
    std::array<Entry, kEntriesPerLine> entries;
  };
  static_assert(sizeof(Entry) == 16 && sizeof(Line) == 64, "one line of the table, one of cache");

  static uint64_t Fingerprint(const FlowHash& hash) { return hash.flow == 0 ? 1 : hash.flow; }
  size_t FirstLine(const FlowHash& hash) const { return hash.slot & mask_; }
  size_t OtherLine(size_t line, uint64_t fingerprint) const {
    return line ^ (((fingerprint >> 32) | 1) & mask_);
  }
  // A free or timed-out entry of the line, or null.
  Entry* FindRoom(size_t line, const FlowClock& clock);

  PageArray<Line> lines_;
  size_t mask_;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_FLOW_TABLE_H_

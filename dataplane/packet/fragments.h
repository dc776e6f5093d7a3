// The fragments of one packet go the same way, though only the first says which: the fate of first
// fragments, and the later ones that came before them.
//
//   fates   16384 in sets of four, by a hash of source, destination, protocol and identification
//   held    copies of up to 256 later fragments, each for at most half a second, in a ring in the
//           order of their arrival
//
// A first fragment leaves its fate (a backend, a drop, a punt) for those that follow. It is
// forgotten after five seconds: long after the last fragment, and before a busy sender of IPv4
// comes to the same identification again (of 16 bits: at 13000 fragmented packets a second to one
// host). A later fragment without a fate is copied and kept back. When its first one has come, or
// its time is up, or there are newer ones enough, it comes again as if it had just been received,
// and is not kept a second time. So there is no guess, and what a flood of fragments can fill is
// bounded; in a full table the oldest pays.
//
// One worker's; not to be shared between threads. Everything is allocated at construction.
#ifndef GUIDEWAY_DATAPLANE_PACKET_FRAGMENTS_H_
#define GUIDEWAY_DATAPLANE_PACKET_FRAGMENTS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/clock.h"
#include "maglev/flow_hash.h"
#include "maglev/pages.h"
#include "maglev/snapshot.h"

namespace guideway {

class Fragments {
 public:
  // Largest frame that is held, in bytes: an IP packet of 9600 bytes behind Ethernet and two VLAN
  // tags, rounded up so that a cache line is not shared.
  static constexpr uint32_t kMaxHeldFrame = 9632;
  static constexpr size_t kHeld = 256;
  static constexpr Nanoseconds kHoldTime = kSecond / 2;
  static constexpr Nanoseconds kFateTime = 5 * kSecond;

  // What names the packet that a fragment is of.
  struct Key {
    uint64_t low, high;  // a hash of 128 bits

    // Of the packet at `ip`. `protocol`: of its IP header.
    static Key Of(const uint8_t* ip, const ParsedPacket& packet, uint8_t protocol, uint64_t seed);
    friend bool operator==(const Key&, const Key&) = default;
  };

  // What became of a first fragment.
  struct Fate {
    Verdict verdict = Verdict::kPunt;    // kForward, kDrop or kPunt
    Reason reason = Reason::kNoBackend;  // of a kDrop
    BackendId backend = kNoBackend;      // of a kForward
    FlowHash hash = {};                  // of its connection: the outer headers' entropy
  };

  Fragments();

  // The fate of the first fragment; null if it did not come lately. Valid until Remember.
  const Fate* Find(const Key& key, Nanoseconds now) const;

  // Leaves a fate for the fragments to come, and lets those go that were waiting for it.
  void Remember(const Key& key, const Fate& fate, Nanoseconds now);

  // Forgets fates of backends that have left the configuration.
  void Sweep(const Snapshot& snapshot);

  // Keeps a copy of a later fragment. False if it is too long, or more came at once than are taken.
  bool Hold(const Key& key, const Frame& frame, Nanoseconds now);

  // Moves up to Burst::kSize held fragments that wait no longer into the burst, oldest first; with
  // `all`, every one counts as such. Their frames are the table's memory, valid until the next
  // Take or Hold. False if there is none.
  bool Take(Nanoseconds now, bool all, Burst& burst);

 private:
  struct FateEntry {
    Key key;
    Nanoseconds since;
    Fate fate;
    bool used;
  };
  enum class State : uint8_t { kFree, kWaiting, kReady, kTaken };
  struct Held {
    Nanoseconds since;
    Frame frame;
    State state;
  };
  static constexpr size_t kFates = 16384;
  static constexpr size_t kWays = 4;
  static constexpr size_t kHeldSize = Frame::kHeadroom + kMaxHeldFrame;
  static_assert(kHeldSize % 64 == 0);
  // Places in the ring: those that wait, and as many that are on their way out.
  static constexpr size_t kRing = 2 * kHeld;

  // Places are numbers that grow; they count modulo kRing.
  static size_t At(uint64_t place) { return place % kRing; }
  void MakeReady(uint64_t place);
  // The oldest that waits is at oldest_, unless none does.
  void SkipToWaiting();

  FateEntry* Set(const Key& key) { return &fates_[key.low % (kFates / kWays) * kWays]; }
  const FateEntry* Set(const Key& key) const { return &fates_[key.low % (kFates / kWays) * kWays]; }

  PageArray<FateEntry> fates_;
  PageArray<uint8_t> memory_;  // of held frames
  std::array<Held, kRing> held_;
  std::array<Key, kRing> keys_;  // beside them, to be searched
  uint64_t oldest_ = 0, next_ = 0;
  size_t waiting_ = 0;
  std::array<uint16_t, kRing> ready_;  // indices into held_, in the order in which they got ready
  uint64_t first_ready_ = 0, end_ready_ = 0;
  std::array<uint16_t, Burst::kSize> taken_;
  size_t taken_count_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_FRAGMENTS_H_

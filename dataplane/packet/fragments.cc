#include "dataplane/packet/fragments.h"

#include <algorithm>
#include <cstring>

namespace guideway {

Fragments::Key Fragments::Key::Of(const ParsedPacket& packet, uint8_t protocol, uint64_t seed) {
  struct {
    uint8_t source[16], destination[16];
    uint32_t identification;
    uint8_t version, protocol;
    uint16_t zero;
  } name = {};
  static_assert(sizeof(name) == 40);
  std::memcpy(name.source, packet.source.bytes(), sizeof(name.source));
  std::memcpy(name.destination, packet.destination.bytes(), sizeof(name.destination));
  name.identification = packet.fragment_id;
  name.version = static_cast<uint8_t>(packet.source.bits());
  // Of IPv4 it is part of the name (RFC 791), of IPv6 it is not (RFC 8200, section 4.5).
  if (packet.source.is_v4()) name.protocol = protocol;
  const XXH128_hash_t hash = XXH3_128bits_withSeed(&name, sizeof(name), seed);
  return {hash.low64, hash.high64};
}

Fragments::Fragments()
    : fates_(kFates, PageSize::kTransparentHuge),
      memory_(kHeld * kHeldSize, PageSize::kTransparentHuge),
      held_() {}

const Fragments::Fate* Fragments::Find(const Key& key, Nanoseconds now) const {
  const FateEntry* set = Set(key);
  for (size_t way = 0; way < kWays; ++way) {
    const FateEntry& entry = set[way];
    if (entry.used && entry.key == key && now - entry.since <= kFateTime) return &entry.fate;
  }
  return nullptr;
}

void Fragments::Remember(const Key& key, const Fate& fate, Nanoseconds now) {
  FateEntry* set = Set(key);
  FateEntry* place = &set[0];
  for (size_t way = 0; way < kWays; ++way) {
    FateEntry& entry = set[way];
    if (entry.used && entry.key == key) {
      place = &entry;
      break;
    }
    if (place->used && (!entry.used || entry.since < place->since)) place = &entry;
  }
  *place = {.key = key, .since = now, .fate = fate, .used = true};
  if (waiting_ == 0) return;
  for (Held& held : held_) {
    if (held.state != Held::State::kWaiting || held.key != key) continue;
    held.state = Held::State::kReady;
    --waiting_;
    ++ready_;
  }
}

void Fragments::Sweep(const Snapshot& snapshot) {
  for (size_t i = 0; i < kFates; ++i) {
    FateEntry& entry = fates_[i];
    if (entry.used && entry.fate.verdict == Verdict::kForward &&
        snapshot.FindBackend(entry.fate.backend) == nullptr) {
      entry.used = false;
    }
  }
}

bool Fragments::Hold(const Key& key, const Frame& frame, Nanoseconds now) {
  if (frame.length > kMaxHeldFrame) return false;
  Held* free = nullptr;
  Held* oldest = nullptr;
  for (Held& held : held_) {
    if (held.state == Held::State::kTaken) held.state = Held::State::kFree;
    if (held.state == Held::State::kFree) free = &held;
    if (held.state == Held::State::kWaiting && (oldest == nullptr || held.order < oldest->order)) {
      oldest = &held;
    }
  }
  if (free == nullptr) {
    // No place for this one; the next finds one.
    if (oldest == nullptr) return false;
    oldest->state = Held::State::kReady;
    --waiting_;
    ++ready_;
    return false;
  }
  uint8_t* data = &memory_[static_cast<size_t>(free - held_.data()) * kHeldSize] + Burst::kHeadroom;
  std::memcpy(data, frame.data, frame.length);
  *free = {.key = key,
           .since = now,
           .order = arrivals_++,
           .frame = frame,
           .state = Held::State::kWaiting};
  free->frame.data = data;
  free->frame.headroom = Burst::kHeadroom;
  free->frame.was_held = free->frame.was_handed_over = true;
  ++waiting_;
  return true;
}

bool Fragments::Take(Nanoseconds now, bool all, Burst& burst) {
  burst.size = 0;
  if (waiting_ + ready_ == 0) return false;
  std::array<Held*, kHeld> due;
  size_t count = 0;
  for (Held& held : held_) {
    const bool is_due =
        held.state == Held::State::kReady ||
        (held.state == Held::State::kWaiting && (all || now - held.since >= kHoldTime));
    if (is_due) due[count++] = &held;
  }
  std::sort(due.begin(), due.begin() + count,
            [](const Held* a, const Held* b) { return a->order < b->order; });
  count = std::min<size_t>(count, Burst::kSize);
  for (size_t i = 0; i < count; ++i) {
    Held& held = *due[i];
    --(held.state == Held::State::kReady ? ready_ : waiting_);
    held.state = Held::State::kTaken;
    burst.frames[i] = held.frame;
  }
  burst.size = static_cast<uint32_t>(count);
  return count > 0;
}

}  // namespace guideway

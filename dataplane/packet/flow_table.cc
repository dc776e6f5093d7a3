#include "dataplane/packet/flow_table.h"

#include <algorithm>
#include <bit>

namespace guideway {
namespace {

constexpr uint64_t kUnconfirmedBit = uint64_t{1} << 31;

uint64_t Pack(const Flow& flow) {
  return uint64_t{flow.touched} << 32 | (flow.unconfirmed ? kUnconfirmedBit : 0) |
         static_cast<uint64_t>(flow.state) << 24 | flow.backend;
}

Flow Unpack(uint64_t word) {
  return {.backend = static_cast<BackendId>(word & 0xffffff),
          .state = static_cast<FlowState>((word >> 24) & 0x7f),
          .unconfirmed = (word & kUnconfirmedBit) != 0,
          .touched = static_cast<Ticks>(word >> 32)};
}

}  // namespace

Flow FlowTable::Entry::flow() const { return Unpack(flow_.load(std::memory_order_relaxed)); }

void FlowTable::Entry::Update(const Flow& flow) {
  const uint64_t word = Pack(flow);
  if (flow_.load(std::memory_order_relaxed) != word) flow_.store(word, std::memory_order_relaxed);
}

// Free in between, for those who read it meanwhile.
void FlowTable::Entry::Set(uint64_t fingerprint, const Flow& flow) {
  fingerprint_.store(0, std::memory_order_relaxed);
  flow_.store(Pack(flow), std::memory_order_release);
  fingerprint_.store(fingerprint, std::memory_order_release);
}

FlowTable::FlowTable(size_t entries, PageSize page_size)
    : lines_(std::bit_ceil(std::max<size_t>(entries, 2 * kEntriesPerLine)) / kEntriesPerLine,
             page_size),
      mask_(lines_.size() - 1) {}

FlowTable::Entry* FlowTable::Find(const FlowHash& hash) {
  const uint64_t fingerprint = Fingerprint(hash);
  const size_t first = FirstLine(hash);
  for (size_t line : {first, OtherLine(first, fingerprint)}) {
    for (Entry& entry : lines_[line].entries) {
      if (entry.fingerprint() == fingerprint) return &entry;
    }
  }
  return nullptr;
}

std::optional<Flow> FlowTable::Peek(const FlowHash& hash) const {
  const uint64_t fingerprint = Fingerprint(hash);
  const size_t first = FirstLine(hash);
  for (size_t line : {first, OtherLine(first, fingerprint)}) {
    for (const Entry& entry : lines_[line].entries) {
      if (entry.fingerprint_.load(std::memory_order_acquire) != fingerprint) continue;
      const uint64_t word = entry.flow_.load(std::memory_order_acquire);
      if (entry.fingerprint() == fingerprint) return Unpack(word);
    }
  }
  return std::nullopt;
}

FlowTable::Entry* FlowTable::FindRoom(size_t line, const FlowClock& clock) {
  for (Entry& entry : lines_[line].entries) {
    if (entry.is_free() || entry.flow().IsTimedOut(clock)) return &entry;
  }
  return nullptr;
}

FlowTable::Inserted FlowTable::Insert(const FlowHash& hash, const Flow& flow,
                                      const FlowClock& clock) {
  const uint64_t fingerprint = Fingerprint(hash);
  const size_t first = FirstLine(hash);
  const std::array<size_t, 2> lines = {first, OtherLine(first, fingerprint)};
  const auto put = [&](Entry& entry) {
    const BackendId evicted = entry.is_free() ? kNoBackend : entry.flow().backend;
    entry.Set(fingerprint, flow);
    return Inserted{true, evicted};
  };

  for (size_t line : lines) {
    if (Entry* room = FindRoom(line, clock)) return put(*room);
  }
  for (size_t line : lines) {
    for (Entry& entry : lines_[line].entries) {
      Entry* room = FindRoom(OtherLine(line, entry.fingerprint()), clock);
      if (room == nullptr) continue;
      const BackendId evicted = room->is_free() ? kNoBackend : room->flow().backend;
      room->Set(entry.fingerprint(), entry.flow());
      entry.Set(fingerprint, flow);
      return {true, evicted};
    }
  }
  Entry* oldest = nullptr;
  for (size_t line : lines) {
    for (Entry& entry : lines_[line].entries) {
      const Flow candidate = entry.flow();
      if (!candidate.unconfirmed) continue;
      if (oldest == nullptr || clock.now - candidate.touched > clock.now - oldest->flow().touched) {
        oldest = &entry;
      }
    }
  }
  if (oldest != nullptr) return put(*oldest);
  return {false, kNoBackend};
}

}  // namespace guideway

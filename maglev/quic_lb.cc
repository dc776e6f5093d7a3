#include "maglev/quic_lb.h"

#include <bit>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

using Number = unsigned __int128;

static_assert(std::endian::native == std::endian::little);

template <typename Word>
Word LoadWord(const uint8_t* bytes) {
  Word word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// The first `count` bytes, 1 to 15. In two words that meet or overlap: a copy of `count` bytes
// would have to be read again as one number, and that waits until all of it is written, for longer
// than the rest of a lookup without encryption takes.
Number Load(const uint8_t* bytes, size_t count) {
  if (count >= 8) {
    const Number last = LoadWord<uint64_t>(bytes + count - 8);
    return LoadWord<uint64_t>(bytes) | last << 8 * (count - 8);
  }
  if (count >= 4) {
    const uint64_t last = LoadWord<uint32_t>(bytes + count - 4);
    return LoadWord<uint32_t>(bytes) | last << 8 * (count - 4);
  }
  return bytes[0] | uint32_t{bytes[count / 2]} << 8 * (count / 2) |
         uint32_t{bytes[count - 1]} << 8 * (count - 1);
}

// 1 in the bits of the first `count` bytes, fewer than 16.
constexpr Number FirstBytes(size_t count) { return (Number{1} << 8 * count) - 1; }

absl::Status Validate(const QuicLb::Config& config) {
  const auto error = [&](auto... what) {
    return absl::InvalidArgumentError(absl::StrCat("QUIC-LB config ", config.id, ": ", what...));
  };
  if (config.id > 6) return error("the id is not one of 0 to 6");
  if (config.server_id_length < 1 || config.server_id_length > 15) {
    return error("a server id has 1 to 15 bytes, not ", config.server_id_length);
  }
  if (config.nonce_length < 4 || config.nonce_length > 18) {
    return error("a nonce has 4 to 18 bytes, not ", config.nonce_length);
  }
  if (config.server_id_length + config.nonce_length > 19) {
    return error("server id and nonce have at most 19 bytes together, not ",
                 config.server_id_length + config.nonce_length);
  }
  return absl::OkStatus();
}

}  // namespace

QuicLb::Reader::Reader(const Config& config)
    : length(config.server_id_length + config.nonce_length),
      half_length((length + 1) / 2),
      server_id_length(config.server_id_length),
      needs_right(config.server_id_length > config.nonce_length),
      left_mask(FirstBytes(half_length)),
      right_mask(left_mask) {
  if (length % 2 != 0) {
    left_mask ^= Number{0x0f} << 8 * (half_length - 1);
    right_mask ^= 0xf0;
  }
  if (config.key.has_value()) aes.emplace(*config.key);
}

// Encryption changes the right half in rounds 1 and 3 and the left half in 2 and 4, by what AES
// makes of the other half, the length and the round's number; here, round by round, it is taken
// back. The draft clears four bits of the shared byte whenever it comes up. That is what the masks
// do.
QuicLb::Number QuicLb::Reader::ServerId(const uint8_t* bytes) const {
  const Number server_id_mask = FirstBytes(server_id_length);
  if (!aes.has_value()) return Load(bytes, server_id_length);
  if (length == sizeof(Aes128::Block)) {
    const auto block = LoadWord<Aes128::Block>(bytes);
    return std::bit_cast<Number>(aes->Decrypt(block)) & server_id_mask;
  }
  const auto round = [this](Number number, Number half) {
    const Number block = half | Number{length} << 112 | number << 120;
    return std::bit_cast<Number>(aes->Encrypt(std::bit_cast<Aes128::Block>(block)));
  };
  const size_t right_begin = length - half_length;
  Number left = Load(bytes, half_length) & left_mask;
  Number right = Load(bytes + right_begin, half_length) & right_mask;
  left ^= round(4, right) & left_mask;
  right ^= round(3, left) & right_mask;
  left ^= round(2, right) & left_mask;
  if (needs_right) right ^= round(1, left) & right_mask;
  // If not, what stands here for the right half is outside of the server id.
  return (left | right << 8 * right_begin) & server_id_mask;
}

absl::StatusOr<QuicLb> QuicLb::Build(absl::Span<const Config> configs,
                                     absl::Span<const std::pair<std::string, uint32_t>> servers) {
  QuicLb result;
  for (const Config& config : configs) {
    if (absl::Status status = Validate(config); !status.ok()) return status;
    if (config.server_id_length != configs[0].server_id_length) {
      return absl::InvalidArgumentError(
          absl::StrCat("QUIC-LB configs ", configs[0].id, " and ", config.id,
                       " differ in the length of server ids: ", configs[0].server_id_length,
                       " and ", config.server_id_length, " bytes"));
    }
    if (result.readers_.size() <= config.id) result.readers_.resize(config.id + 1);
    Reader& reader = result.readers_[config.id];
    if (reader.length != 0) {
      return absl::InvalidArgumentError(absl::StrCat("QUIC-LB config ", config.id, " comes twice"));
    }
    reader = Reader(config);
  }
  if (configs.empty() && !servers.empty()) {
    return absl::InvalidArgumentError("QUIC-LB has server ids but no config to read them by");
  }
  result.servers_.reserve(servers.size());
  for (const auto& [id, value] : servers) {
    const auto error = [&id = id](auto... what) {
      return absl::InvalidArgumentError(
          absl::StrCat("QUIC-LB server id ", absl::BytesToHexString(id), " ", what...));
    };
    if (id.size() != configs[0].server_id_length) {
      return error("has ", id.size(), " bytes, not ", configs[0].server_id_length);
    }
    if (value == kNone) return error("has the value that means none");
    const Number number = Load(reinterpret_cast<const uint8_t*>(id.data()), id.size());
    if (!result.servers_.emplace(number, value).second) return error("comes twice");
  }
  return result;
}

uint32_t QuicLb::Find(absl::Span<const uint8_t> connection_id) const {
  if (connection_id.empty()) return kNone;
  const size_t config = connection_id[0] >> 5;
  if (config >= readers_.size()) return kNone;
  const Reader& reader = readers_[config];
  if (reader.length == 0 || connection_id.size() < 1u + reader.length) return kNone;
  const auto server = servers_.find(reader.ServerId(&connection_id[1]));
  return server == servers_.end() ? kNone : server->second;
}

uint32_t QuicLb::FindInPacket(absl::Span<const uint8_t> udp_payload) const {
  // Long: 1 byte whose highest bit is 1, 4 of the version, 1 of the id's length, the id.
  constexpr size_t kLengthAt = 5, kIdAt = 6;
  if (udp_payload.empty()) return kNone;
  if ((udp_payload[0] & 0x80) == 0) return Find(udp_payload.subspan(1));
  if (udp_payload.size() < kIdAt) return kNone;
  const size_t length = udp_payload[kLengthAt];
  if (udp_payload.size() - kIdAt < length) return kNone;
  return Find(udp_payload.subspan(kIdAt, length));
}

size_t QuicLb::bytes() const {
  // One byte of control for each place of the table.
  return readers_.capacity() * sizeof(Reader) +
         servers_.capacity() * (sizeof(decltype(servers_)::value_type) + 1);
}

}  // namespace guideway

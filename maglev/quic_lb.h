// QUIC connection ids that name their server: QUIC-LB (draft-ietf-quic-load-balancers-21).
//
// A QUIC client may change its address and port in the middle of a connection; what stays is the
// connection id, which the server has chosen. So a server writes its own id into it, and a balancer
// that shares the configuration reads it there, without a table of connections:
//
//   bits     3        5
//          | config | any | server id         | nonce             | anything
//   bytes    1              server_id_length    nonce_length
//                         |  encrypted, if there is a key         |
//
// The first three bits tell configs apart, so that keys and lengths can change while connections
// last; 0b111 is no config, but means that the id names nobody. The other five may say the id's
// length or nothing. Server id and nonce are encrypted with AES-128: as one block, if they are as
// long as one, and otherwise by four rounds of a Feistel network, which encrypts each half with
// what AES makes of the other. Reading the server id takes back three rounds, or all four if it is
// longer than the nonce.
//
// What it cannot know: a client's first packets carry an id that the client has drawn at random. If
// it happens to begin with the bits of a config, it reads as a server id like any other, and names
// a server with the probability that random bytes do: number of servers / 256^server_id_length.
// Nothing breaks, as the server that gets the connection answers with an id of its own, but the
// hash was not asked. Long server ids make it rare. And nothing is authenticated: who has seen an
// id can send to its server, and without a key anybody can write one for the server that he wants.
//
// Memory: for each config, its key expanded (some 400 bytes); for each server, an entry of a hash
// table from the id, as a number, to its value (32 bytes). A lookup allocates nothing, and takes at
// most four blocks of AES and one search in the table. Immutable after Build; safe from any thread.
#ifndef GUIDEWAY_MAGLEV_QUIC_LB_H_
#define GUIDEWAY_MAGLEV_QUIC_LB_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/numeric/int128.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "maglev/aes128.h"

namespace guideway {

class QuicLb {
 public:
  // No server.
  static constexpr uint32_t kNone = 0xffffffff;

  struct Config {
    uint8_t id = 0;                              // 0 to 6: the first three bits of a connection id
    uint8_t server_id_length = 0;                // bytes, 1 to 15
    uint8_t nonce_length = 0;                    // bytes, 4 to 18; both together 5 to 19
    std::optional<std::array<uint8_t, 16>> key;  // AES-128; none: not encrypted
  };

  // Finds nobody.
  QuicLb() = default;

  // Configs, and of each server its id (raw bytes, as many as every config says) and a value;
  // several ids may have one value. An InvalidArgument says which rule is broken: a config's id
  // comes twice or is out of range, as is a length, configs differ in the length of server ids, a
  // server id comes twice or has another length, there are servers and no config, or a value is
  // kNone.
  static absl::StatusOr<QuicLb> Build(absl::Span<const Config> configs,
                                      absl::Span<const std::pair<std::string, uint32_t>> servers);

  // The value of the server that a connection id names, or kNone: it is of no config (0b111 never
  // is), too short for its config, or names no server. What follows the nonce does not matter.
  uint32_t Find(absl::Span<const uint8_t> connection_id) const;

  // The same for the destination connection id of a UDP payload from a client, of any version of
  // QUIC (RFC 8999). A long header says where the id ends. A short one does not: what follows it is
  // taken as the id, and its config knows how much of it matters. A payload may have several
  // packets, all with the same id; the first is looked at.
  uint32_t FindInPacket(absl::Span<const uint8_t> udp_payload) const;

  // Memory, besides this object.
  size_t bytes() const;

 private:
  // Bytes as a number: the first is the lowest. Half of an id and a server id fit.
  using Number = unsigned __int128;

  // How the connection ids of one config are read.
  struct Reader {
    Reader() = default;
    explicit Reader(const Config& config);

    // From the bytes behind a connection id's first, at least `length` of them.
    Number ServerId(const uint8_t* bytes) const;

    uint8_t length = 0;       // of server id and nonce; 0: there is no such config
    uint8_t half_length = 0;  // rounded up: halves of an odd length share the byte in the middle
    uint8_t server_id_length = 0;
    bool needs_right = false;  // the server id reaches into the right half
    // 1 in the bits of each half, and so not in the four of a shared byte that are the other's.
    Number left_mask = 0;
    Number right_mask = 0;
    std::optional<Aes128> aes;  // none: not encrypted
  };

  std::vector<Reader> readers_;  // by config id, up to the last
  absl::flat_hash_map<absl::uint128, uint32_t> servers_;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_QUIC_LB_H_

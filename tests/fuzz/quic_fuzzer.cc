// Any bytes as configs, server ids and a packet: what quic_lb.h promises must hold for each, and
// whatever a server writes must be read.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "maglev/quic_lb.h"
#include "tests/fuzz/check.h"
#include "tests/support/quic_lb_encoder.h"

namespace guideway {
namespace {

using Config = QuicLb::Config;
using Servers = std::vector<std::pair<std::string, uint32_t>>;
using testing::QuicBytes;

std::vector<Config> ConsumeConfigs(FuzzedDataProvider& data) {
  std::vector<Config> configs(data.ConsumeIntegralInRange<size_t>(0, 4));
  const uint8_t server_id_length = data.ConsumeIntegral<uint8_t>() % 18;
  for (Config& config : configs) {
    const uint8_t kind = data.ConsumeIntegral<uint8_t>();
    config.id = kind & 7;
    config.server_id_length = kind == 255 ? data.ConsumeIntegral<uint8_t>() : server_id_length;
    config.nonce_length = data.ConsumeIntegral<uint8_t>() % 20;
    if ((kind & 8) == 0) continue;
    config.key.emplace();
    const std::vector<uint8_t> key = data.ConsumeBytes<uint8_t>(16);
    std::copy(key.begin(), key.end(), config.key->begin());
  }
  return configs;
}

Servers ConsumeServers(FuzzedDataProvider& data, const std::vector<Config>& configs) {
  Servers servers(data.ConsumeIntegralInRange<size_t>(0, 20));
  for (auto& [id, value] : servers) {
    const uint8_t kind = data.ConsumeIntegral<uint8_t>();
    if (kind == 255) {
      id = data.ConsumeRandomLengthString(20);
    } else {
      id = data.ConsumeBytesAsString(configs.empty() ? 0 : configs[0].server_id_length);
      if (kind >= 4 && !configs.empty()) id.resize(configs[0].server_id_length);
    }
    value = kind % 4 == 0 ? data.ConsumeIntegral<uint32_t>() : kind;
  }
  return servers;
}

// The rules of the header, in its words.
bool IsValid(const std::vector<Config>& configs, const Servers& servers) {
  std::set<uint8_t> config_ids;
  for (const Config& c : configs) {
    const int both = c.server_id_length + c.nonce_length;
    if (c.id > 6 || !config_ids.insert(c.id).second) return false;
    if (c.server_id_length < 1 || c.server_id_length > 15) return false;
    if (c.nonce_length < 4 || c.nonce_length > 18 || both > 19) return false;
    if (c.server_id_length != configs[0].server_id_length) return false;
  }
  std::set<std::string> server_ids;
  for (const auto& [id, value] : servers) {
    if (configs.empty() || id.size() != configs[0].server_id_length) return false;
    if (!server_ids.insert(id).second || value == QuicLb::kNone) return false;
  }
  return true;
}

// Copies of their own, so that AddressSanitizer sees each byte read behind them.
uint32_t Find(const QuicLb& lb, absl::Span<const uint8_t> id) {
  return lb.Find(QuicBytes(id.begin(), id.end()));
}

class Checker {
 public:
  Checker(const std::vector<Config>& configs, const Servers& servers)
      : configs_(configs),
        servers_(servers.begin(), servers.end()),
        lb_(QuicLb::Build(configs, servers).value()) {}

  void Written(FuzzedDataProvider& data) const {
    for (const Config& config : configs_) {
      std::string nonce = data.ConsumeBytesAsString(config.nonce_length);
      nonce.resize(config.nonce_length);
      std::string other = data.ConsumeBytesAsString(config.server_id_length);
      other.resize(config.server_id_length);
      const int low_bits = data.ConsumeIntegral<uint8_t>();
      for (const auto& [server_id, value] : servers_) {
        const QuicBytes id = testing::EncodeQuicLb(config, server_id, nonce, low_bits);
        CHECK_THAT(Find(lb_, id) == value);
        CHECK_THAT(lb_.FindInPacket(testing::QuicShortPacket(id, 0)) == value);
        CHECK_THAT(lb_.FindInPacket(testing::QuicLongPacket(id, 0)) == value);
      }
      const auto it = servers_.find(other);
      CHECK_THAT(Find(lb_, testing::EncodeQuicLb(config, other, nonce)) ==
                 (it == servers_.end() ? QuicLb::kNone : it->second));
    }
  }

  void Any(const QuicBytes& payload) const {
    const uint32_t found = lb_.FindInPacket(payload);
    CHECK_THAT(found == FindPlainly(payload));
    CHECK_THAT(found == QuicLb::kNone ||
               std::any_of(servers_.begin(), servers_.end(),
                           [&](const auto& server) { return server.second == found; }));
    // As an id: just the bytes that its config needs matter, and all of them are needed.
    const uint32_t whole = lb_.Find(payload);
    size_t needed = 0;
    for (const Config& c : configs_) {
      if (!payload.empty() && payload[0] >> 5 == c.id) {
        needed = 1 + c.server_id_length + c.nonce_length;
      }
    }
    if (needed == 0 || payload.size() < needed) {
      CHECK_THAT(whole == QuicLb::kNone);
    } else {
      CHECK_THAT(whole == Find(lb_, absl::MakeSpan(payload).first(needed)));
      CHECK_THAT(Find(lb_, absl::MakeSpan(payload).first(needed - 1)) == QuicLb::kNone);
    }
  }

 private:
  // RFC 8999 section 5, once more.
  uint32_t FindPlainly(const QuicBytes& payload) const {
    size_t begin = 1, end = payload.size();
    if (!payload.empty() && payload[0] >= 128) {
      begin = 6;
      if (end < begin || end < begin + payload[5]) return QuicLb::kNone;
      end = begin + payload[5];
    }
    if (end <= begin) return QuicLb::kNone;
    return Find(lb_, absl::MakeSpan(payload).subspan(begin, end - begin));
  }

  const std::vector<Config> configs_;
  const std::map<std::string, uint32_t> servers_;
  const QuicLb lb_;
};

void Run(FuzzedDataProvider data) {
  const std::vector<Config> configs = ConsumeConfigs(data);
  const Servers servers = ConsumeServers(data, configs);
  if (!IsValid(configs, servers)) {
    const absl::Status status = QuicLb::Build(configs, servers).status();
    CHECK_THAT(status.code() == absl::StatusCode::kInvalidArgument && !status.message().empty());
    return;
  }
  const Checker checker(configs, servers);
  checker.Written(data);
  checker.Any(data.ConsumeRemainingBytes<uint8_t>());
}

}  // namespace
}  // namespace guideway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  guideway::Run(FuzzedDataProvider(bytes, size));
  return 0;
}

// The texts of the configuration file, parsed.
#include "control/config/config_values.h"

#include <gtest/gtest.h>

#include <string>

#include "control/config/files.h"

namespace guideway {
namespace {

TEST(ConfigValues, PortRanges) {
  EXPECT_EQ(ParsePortRange("443").value(), (PortRange{443, 443}));
  EXPECT_EQ(ParsePortRange("8000-8100").value(), (PortRange{8000, 8100}));
  EXPECT_EQ(ParsePortRange("1-65535").value(), (PortRange{1, 65535}));
  for (const char* bad : {"", "0", "65536", "080", "1-", "-1", "2-1", "1-2-3", "a", " 1", "1 - 2",
                          "0-10", "4294967297"}) {
    EXPECT_FALSE(ParsePortRange(bad).ok()) << bad;
  }
}

TEST(ConfigValues, StatusRanges) {
  EXPECT_EQ(ParseStatusRange("200").value(), (StatusRange{200, 200}));
  EXPECT_TRUE(ParseStatusRange("200-299").value().Contains(204));
  EXPECT_FALSE(ParseStatusRange("200-299").value().Contains(300));
  for (const char* bad : {"", "99", "600", "299-200", "2xx"}) {
    EXPECT_FALSE(ParseStatusRange(bad).ok()) << bad;
  }
}

TEST(ConfigValues, Percentages) {
  EXPECT_EQ(ParsePercent("0%").value(), 0);
  EXPECT_EQ(ParsePercent("30%").value(), 0.3);
  EXPECT_EQ(ParsePercent("100%").value(), 1);
  EXPECT_DOUBLE_EQ(ParsePercent("33.25%").value(), 0.3325);
  for (const char* bad : {"", "%", "30", "101%", "100.1%", "-1%", "1e1%", ".5%", "1.%", "30 %"}) {
    EXPECT_FALSE(ParsePercent(bad).ok()) << bad;
  }
}

TEST(ConfigValues, Endpoints) {
  EXPECT_EQ(ParseEndpoint("127.0.0.1:9909").value().port, 9909);
  EXPECT_EQ(ParseEndpoint("[::1]:80").value().address.ToString(), "::1");
  EXPECT_TRUE(ParseEndpoint("0.0.0.0:1").ok());
  for (const char* bad : {"", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
                          "::1:80", "[127.0.0.1]:80", "localhost:80", "224.0.0.1:80"}) {
    EXPECT_FALSE(ParseEndpoint(bad).ok()) << bad;
  }
}

TEST(ConfigValues, Durations) {
  for (const auto& [text, duration] : std::initializer_list<std::pair<const char*, absl::Duration>>{
           {"0s", absl::ZeroDuration()},
           {"500ms", absl::Milliseconds(500)},
           {"1500ms", absl::Milliseconds(1500)},
           {"10s", absl::Seconds(10)},
           {"15m", absl::Minutes(15)},
           {"240h", absl::Hours(240)}}) {
    EXPECT_EQ(ParseConfigDuration(text).value(), duration) << text;
    EXPECT_EQ(FormatConfigDuration(duration), text);
  }
  EXPECT_EQ(FormatConfigDuration(absl::Seconds(60)), "1m");
  for (const char* bad :
       {"", "s", "1", "1.5s", "-1s", "1 s", "01s", "1d", "1us", "1S", "10000000000s"}) {
    EXPECT_FALSE(ParseConfigDuration(bad).ok()) << bad;
  }
}

TEST(ConfigValues, PathsStartAtTheConfigurationFile) {
  EXPECT_EQ(ResolvePath("/etc/guideway/edge.yaml", "deny.txt"), "/etc/guideway/deny.txt");
  EXPECT_EQ(ResolvePath("edge.yaml", "deny.txt"), "deny.txt");
  EXPECT_EQ(ResolvePath("/etc/guideway/edge.yaml", "/var/deny.txt"), "/var/deny.txt");
}

TEST(ConfigValues, TheProbePortIsTheProbesTheBackendsTheServices) {
  config::Service service;
  service.set_protocol(config::TransportProtocol::tcp);
  service.add_ports("8000-8100");
  service.add_ports("80");
  config::Backend backend;
  EXPECT_EQ(ProbePort(service, backend), std::nullopt);
  service.mutable_health_check()->mutable_http();
  EXPECT_EQ(ProbePort(service, backend), 8000);
  backend.set_port(5433);
  EXPECT_EQ(ProbePort(service, backend), 5433);
  service.mutable_health_check()->mutable_http()->set_port(99);
  EXPECT_EQ(ProbePort(service, backend), 99);
}

}  // namespace
}  // namespace guideway

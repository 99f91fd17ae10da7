package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rowlock-io/rowlock/agents/podnetwork"
)

// file is our configuration's.
const file = "10-rowlock.conflist"

// Bridge is the network device that pods of the node are attached to.
const Bridge = "rowlock0"

// plugins are those that the configuration names, and the runtime's own.
var plugins = []string{"bridge", "host-local", "portmap", "loopback"}

// conflist is a configuration as the CNI has it.
type conflist struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Plugins    []any  `json:"plugins"`
}

type bridge struct {
	Type        string `json:"type"`
	Bridge      string `json:"bridge"`
	IsGateway   bool   `json:"isGateway"`
	Force       bool   `json:"forceAddress"`
	HairpinMode bool   `json:"hairpinMode"`
	MTU         int    `json:"mtu,omitempty"`
	IPAM        ipam   `json:"ipam"`
}

type ipam struct {
	Type    string       `json:"type"`
	Ranges  [][]addrPool `json:"ranges"`
	Routes  []route      `json:"routes"`
	DataDir string       `json:"dataDir"`
}

type addrPool struct {
	Subnet netip.Prefix `json:"subnet"`
}

type route struct {
	To netip.Prefix `json:"dst"`
}

type portmap struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
	SNAT         bool            `json:"snat"`
	Backend      string          `json:"backend"`
}

// configuration is ours, for pods of these networks.
func configuration(pods []netip.Prefix, mtu int, stateDir string) []byte {
	of := bridge{
		// A node that is registered anew may get another CIDR. Traffic from a pod to itself by way of a service comes back
		// through the port that it left by.
		Type: "bridge", Bridge: Bridge, IsGateway: true, Force: true, HairpinMode: true, MTU: mtu,
		IPAM: ipam{Type: "host-local", DataDir: stateDir},
	}
	for _, p := range pods {
		anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if p.Addr().Is6() {
			anywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		of.IPAM.Ranges = append(of.IPAM.Ranges, []addrPool{{Subnet: p}})
		of.IPAM.Routes = append(of.IPAM.Routes, route{To: anywhere})
	}
	ports := portmap{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}, SNAT: true, Backend: "nftables"}
	data, err := json.MarshalIndent(conflist{CNIVersion: "1.0.0", Name: "rowlock", Plugins: []any{of, ports}}, "", "  ")
	if err != nil {
		panic(err) // of strings and numbers
	}
	return append(data, '\n')
}

// writeConfiguration puts ours into the directory, unless it is there. Runtimes read whenever they like, so it comes whole.
func (n *Network) writeConfiguration(self podnetwork.Network) error {
	path := filepath.Join(n.ConfDir, file)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data := configuration(self.Pods, mtu(self.Addresses), n.StateDir)
	if bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(n.ConfDir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(n.ConfDir, ".rowlock-*") // which no runtime takes for a configuration
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	n.Log.Info("Wrote the configuration of the pod network", "file", path, "pods", self.Pods)
	return nil
}

func (n *Network) removeConfiguration() error {
	err := os.Remove(filepath.Join(n.ConfDir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// foreign is a file of somebody else's that a runtime would take for a pod network's configuration; "": none.
func (n *Network) foreign() (string, error) {
	entries, err := os.ReadDir(n.ConfDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, e := range entries {
		path := filepath.Join(n.ConfDir, e.Name())
		if e.IsDir() || e.Name() == file || !slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // since it was listed, or a link to nothing
		} else if err != nil {
			return "", err
		}
		var has struct {
			Type    string            `json:"type"`
			Plugins []json.RawMessage `json:"plugins"`
		}
		// Packages of runtimes bring one for the loopback device; that is no pod network.
		if json.Unmarshal(data, &has) == nil && (len(has.Plugins) > 0 || has.Type != "" && has.Type != "loopback") {
			return path, nil
		}
	}
	return "", nil
}

// checkPlugins says which programs are missing.
func (n *Network) checkPlugins() error {
	var missing []string
	for _, name := range plugins {
		if !slices.ContainsFunc(n.BinDirs, func(dir string) bool {
			info, err := os.Stat(filepath.Join(dir, name))
			return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
		}) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("CNI plugins are missing in %s: %s (they are those of github.com/containernetworking/plugins)",
			strings.Join(n.BinDirs, ", "), strings.Join(missing, ", "))
	}
	return nil
}

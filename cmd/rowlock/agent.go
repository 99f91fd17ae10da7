package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apiserver/pkg/server/flagz"

	"github.com/rowlock-io/rowlock/agents/node/join"
)

// agentCommand are the flags of rowlock agent beside those of its node.
type agentCommand struct {
	node nodeOptions

	server, token, tokenFile string
	pins                     []string
	authority                string
	dataDir                  string
	format                   string
	verbosity                int
}

func newAgent() *cobra.Command { return newAgentCommand(&agentCommand{}) }

func newAgentCommand(o *agentCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Make this machine a node",
		Long: `Make this machine a node: pods that are bound to it run in its container runtime, containerd or CRI-O. The command to join
with, token and all, is printed by rowlock token create. The token is needed once: what the machine is known by after that is
kept in the data directory, and is renewed by itself (docs/nodes.md).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.node.validate(); err != nil {
				return err
			}
			cfg, err := o.joining()
			if err != nil {
				return err
			}
			log, verbosity, err := newLogger(cmd.Context(), os.Stderr, o.format, o.verbosity)
			if err != nil {
				return err
			}
			endpoint, err := o.node.runtimeEndpoint(cmd.Context(), "/")
			if err != nil {
				return err
			}
			cfg.Log = log
			go asNode().settle(cmd.Context(), log)
			return o.node.run(cmd.Context(), nodePlace{
				Join: cfg, Endpoint: endpoint, Dir: o.dataDir, Flags: flagz.NamedFlagSetsReader{FlagSets: sections(cmd.Flags())}, Verbosity: verbosity,
			}, log)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.server, "server", "", "URL of the API server; not needed again after the machine has joined")
	fs.StringVar(&o.token, "token", "", "token to join with, as rowlock token create prints it; not needed again after the machine has joined")
	fs.StringVar(&o.tokenFile, "token-file", "", "file with the token, to keep it off the command line")
	fs.StringSliceVar(&o.pins, "discovery-token-ca-cert-hash", nil, "for a token that does not pin the cluster's authority, such as kubeadm's: hash of its public key, sha256:…")
	fs.StringVar(&o.authority, "certificate-authority", "", "file with the cluster's authority, in place of asking the server for it")
	fs.StringVar(&o.dataDir, "data-dir", defaultAgentDir, "directory of the node's certificates and of its pods' data")
	o.node.addFlags(fs)
	fs.StringVar(&o.format, "logging-format", "text", "text or json")
	fs.IntVarP(&o.verbosity, "v", "v", 0, "verbosity; 2 and more shows debug messages")
	_ = fs.SetAnnotation("token", "classified", []string{"true"})
	return inSections(cmd)
}

// defaultAgentDir is where an agent keeps what it has; it runs as root.
const defaultAgentDir = "/var/lib/rowlock/agent"

// joining is how the machine joins.
func (o *agentCommand) joining() (join.Config, error) {
	cfg := join.Config{Dir: filepath.Join(o.dataDir, "pki"), Server: o.server, UserAgent: "rowlock-agent/" + ownVersion()}
	text := o.token
	switch {
	case o.token != "" && o.tokenFile != "":
		return cfg, errors.New("only one of --token and --token-file may be given")
	case o.tokenFile != "":
		data, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return cfg, fmt.Errorf("--token-file: %w", err)
		}
		text = strings.TrimSpace(string(data))
	}
	var err error
	if text != "" {
		if cfg.Token, err = join.ParseToken(text); err != nil {
			return cfg, fmt.Errorf("--token: %w", err)
		}
	}
	if len(o.pins) > 0 {
		pins, err := join.ParsePins(o.pins)
		if err != nil {
			return cfg, fmt.Errorf("--discovery-token-ca-cert-hash: %w", err)
		}
		cfg.Token.Pins = append(cfg.Token.Pins, pins...)
	}
	if o.authority != "" {
		if cfg.Authority, err = os.ReadFile(o.authority); err != nil {
			return cfg, fmt.Errorf("--certificate-authority: %w", err)
		}
	}
	cfg.Node, err = o.node.name()
	return cfg, err
}

// nodePlace is where a node is: of which cluster it is one, where its runtime and its files are, and in which process it runs.
type nodePlace struct {
	Join      join.Config
	Endpoint  string
	Dir       string
	Flags     flagz.Reader
	Verbosity func(level int) error
}

package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/agents/node/join"
	"github.com/rowlock-io/rowlock/server/pki"
)

// localNode is the node that rowlock up makes of the machine it runs on.
type localNode struct {
	on   bool
	said func() bool // --agent was given; nil: there is no such flag
	node nodeOptions
	dir  string

	endpoint string // of its container runtime; empty: there is no node
}

func (l *localNode) addFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&l.on, "agent", true, "make this machine a node, if root says so and there is a container runtime; --agent alone fails where that is not so")
	flag := fs.Lookup("agent")
	l.said = func() bool { return flag.Changed }
	l.node.addFlags(fs)
}

func (l *localNode) validate() error {
	if l.said == nil || !l.on {
		return nil
	}
	return l.node.validate()
}

// find looks whether the machine can be a node, and says what it found.
func (l *localNode) find(ctx context.Context, simulated bool, log *slog.Logger) error {
	if l.said == nil || !l.on || simulated && !l.said() {
		return nil
	}
	asked := l.said() || l.node.endpoint != ""
	var endpoint string
	err := errors.New("only root can run pods")
	if os.Geteuid() == 0 {
		endpoint, err = l.node.runtimeEndpoint(ctx, "/")
	}
	if err == nil && !asked {
		err = l.node.unasked(ctx, endpoint)
	}
	if err != nil {
		if asked {
			return err
		}
		log.Info("This machine is not made a node", "why", err)
		return nil
	}
	l.endpoint = endpoint
	name, err := l.node.name()
	log.Info("This machine is made a node", "node", name, "runtime", endpoint)
	return err
}

// networked tells whether there is a node that gives its pods a network.
func (l *localNode) networked() bool { return l.endpoint != "" && l.node.pods.network }

// is tells whether a node is this one.
func (l *localNode) is(name string) bool {
	own, err := l.node.name()
	return l.endpoint != "" && err == nil && own == name
}

// join is how the machine becomes a node: its first certificate is made by the server that runs in the same process.
func (l *localNode) join(ca *pki.Authority, server string) join.Config {
	return join.Config{
		Dir: filepath.Join(l.dir, "pki"), Server: server, Authority: ca.Bundle(), UserAgent: "rowlock-agent/" + ownVersion(),
		Issue: func(node string) (cert, key []byte, err error) {
			pair, err := ca.IssueClient(pki.Client{User: "system:node:" + node, Groups: []string{"system:nodes"}})
			if err != nil {
				return nil, nil, err
			}
			return pair.CertPEM, pair.KeyPEM, nil
		},
	}
}

// Bounds of the wait before a node that failed is started again.
const (
	firstNodeRestart = time.Second
	lastNodeRestart  = time.Minute
)

// start runs the node, if there is to be one, until ctx ends or it is stopped. A node that fails does not take the server along.
func (l *localNode) start(ctx context.Context, place nodePlace, log *slog.Logger) (stop func()) {
	if l.endpoint == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		log := log.With("agent", "node")
		place.Join.Log, place.Endpoint, place.Dir = log, l.endpoint, l.dir
		place.Join.Node, _ = l.node.name() // find has seen to it
		for wait := firstNodeRestart; ; wait = min(2*wait, lastNodeRestart) {
			began := time.Now()
			err := l.node.run(ctx, place, log)
			if ctx.Err() != nil {
				return
			}
			if time.Since(began) > 10*lastNodeRestart {
				wait = firstNodeRestart
			}
			log.Error("The node stopped and is started again", "err", err, "after", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

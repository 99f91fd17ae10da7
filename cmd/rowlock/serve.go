package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/rowlock-io/rowlock/agents/controllers"
	"github.com/rowlock-io/rowlock/server"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/kubeconfig"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
)

// defaultCluster answers at the root of the server.
const defaultCluster = "default"

// drainTimeout bounds the wait for requests that are under way when the server stops.
const drainTimeout = 30 * time.Second

// serve runs a server until ctx ends.
func serve(ctx context.Context, o *options, d database, keys *seal.Keyring) (err error) {
	versions, err := o.features.apply()
	if err != nil {
		return err
	}
	if err := o.agents.checkScheduler(); err != nil {
		return err
	}
	log, verbosity, err := newLogger(ctx, os.Stderr, o.LogFormat, o.Verbosity)
	if err != nil {
		return err
	}
	if err := o.agents.tellIgnored(log); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(o.BindAddress.String(), strconv.Itoa(o.SecurePort)))
	if err != nil {
		return fmt.Errorf("--bind-address, --secure-port: %w", err)
	}
	defer listener.Close() // the server has closed it, unless it never ran
	port := listener.Addr().(*net.TCPAddr).Port

	db, err := d.open(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := ensureCluster(ctx, db, defaultCluster); err != nil {
		return err
	}
	o.admit.setup()
	metrics, err := controlplane.NewMetrics(legacyregistry.Registerer())
	if err != nil {
		return err
	}
	if err := metrics.CountAggregation(); err != nil {
		return err
	}
	record, stopRecord, err := o.record.start(log)
	if err != nil {
		return err
	}
	defer stopRecord()
	providers, stopProviders, err := o.encryption.start(ctx, log)
	if err != nil {
		return err
	}
	defer stopProviders()
	planes := o.plane(port, d.shared(), keys, metrics, log)
	planes.Flow = o.flow.limits()
	planes.Hints = o.http.Hints
	planes.Versions, planes.NoNodeMetrics = versions, !o.features.figures
	planes.Process = controlplane.Process{Flags: flagz.NamedFlagSetsReader{FlagSets: sections(o.all)}, SetVerbosity: verbosity}
	planes.Record = record
	planes.Encryption = providers
	if err := o.local.find(ctx, o.simulate.Nodes > 0, log); err != nil {
		return err
	}
	if o.local.networked() {
		if err := o.agents.network(o.all); err != nil {
			return err
		}
	}
	o.agents.own, o.agents.domain = controllers.Own{Names: o.named(), Node: o.local.is}, strings.ToLower(strings.Trim(o.ClusterHosts, "."))
	if planes.Agents, err = o.agents.agents(o.ServiceRange, surviveCrashes(), d.shared()); err != nil {
		return err
	}
	simulated, err := o.simulate.agents(o.agents.clusterCIDR())
	if err != nil {
		return err
	}
	planes.Agents = append(planes.Agents, simulated...)
	if err := o.access.apply(&planes); err != nil {
		return err
	}
	stopSigner, err := o.access.startSigner(ctx, &planes)
	if err != nil {
		return err
	}
	defer stopSigner()
	clusters := server.NewClusters(server.ClustersConfig{
		Database: db, Keep: []string{defaultCluster}, Log: log, Plane: planes,
	})
	plane, release, err := clusters.Acquire(ctx, defaultCluster)
	if err != nil {
		return errors.Join(err, clusters.Close())
	}
	defer release()
	secure, err := o.tls.tls()
	if err != nil {
		return errors.Join(err, clusters.Close())
	}
	serving, err := pki.NewServing(plane.Identity().ClusterCA, o.hosts(plane))
	if err != nil {
		return errors.Join(err, clusters.Close())
	}
	if err := o.writeKubeconfig(ctx, plane, port, log); err != nil {
		return errors.Join(err, clusters.Close())
	}
	s, err := server.New(server.Config{
		Listener: listener, Serving: serving, Clusters: clusters, Default: defaultCluster, Domain: o.ClusterHosts,
		ShutdownDelay: o.ShutdownDelay, DrainTimeout: drainTimeout, Log: log, TLS: secure,
	})
	if err != nil {
		return errors.Join(err, clusters.Close())
	}
	settles := asServer(plane.Bootstrapped(), plane.Cool)
	if o.local.endpoint != "" {
		settles.mapped = asNode().mapped
	}
	go settles.settle(ctx, log)
	stopNode := o.local.start(ctx, nodePlace{
		Join:  o.local.join(plane.Identity().ClusterCA, "https://"+net.JoinHostPort(o.reachable(), strconv.Itoa(port))),
		Flags: planes.Process.Flags, Verbosity: planes.Process.SetVerbosity,
	}, log)
	defer stopNode()
	log.Info("Serving", "address", listener.Addr().String(), "database", d.Scheme)
	return s.Run(ctx)
}

func (o *options) plane(port int, replicas bool, keys *seal.Keyring, metrics *controlplane.Metrics, log *slog.Logger) controlplane.Config {
	cfg := controlplane.Config{
		Keys: keys, ServiceRange: o.ServiceRange, NodePortRange: o.NodePortRange,
		Advertise: o.advertise(), Port: port, Replicas: replicas,
		EventTTL: o.EventTTL, HistoryAge: o.HistoryAge, HistoryBytes: o.HistoryBytes, RequestTimeout: o.RequestTime,
		Admission: o.admit.Options, DecodedBytes: o.DecodedBytes, Metrics: metrics, Log: log,
		Outbound: o.outbound.plane(),
	}
	o.memory.apply(&cfg)
	return cfg
}

// advertise is where pods reach this server: what the operator says, else the host's address when it is listened on.
func (o *options) advertise() net.IP {
	switch {
	case o.Advertise != nil:
		return o.Advertise
	case o.BindAddress.IsLoopback():
		return nil
	}
	ip, err := utilnet.ResolveBindAddress(o.BindAddress)
	if err != nil {
		return nil // a machine with no network serves itself
	}
	return ip
}

func (o *options) hosts(plane *controlplane.ControlPlane) []string {
	return pki.Hosts(plane.ServiceIP(), "", o.named()...)
}

// named are the names and addresses that this server has and others do not.
func (o *options) named() []string {
	names := append([]string{}, o.TLSNames...)
	if !o.BindAddress.IsUnspecified() {
		names = append(names, o.BindAddress.String())
	}
	if ip := o.advertise(); ip != nil {
		names = append(names, ip.String())
	}
	if o.tls.custom() {
		names = append(names, kubeconfig.OwnName)
	}
	return names
}

// reachable is the address by which a client on this machine reaches the server.
func (o *options) reachable() string {
	switch {
	case !o.BindAddress.IsUnspecified():
		return o.BindAddress.String()
	case o.BindAddress.To4() == nil:
		return "::1"
	}
	return "127.0.0.1"
}

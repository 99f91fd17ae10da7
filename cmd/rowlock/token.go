package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"
	tokenapi "k8s.io/cluster-bootstrap/token/api"
	tokens "k8s.io/cluster-bootstrap/token/util"
	"k8s.io/cluster-bootstrap/util/secrets"

	"github.com/rowlock-io/rowlock/agents/node/join"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and delete the tokens that machines join with",
		Long: `Make, list and delete the tokens that machines join with (docs/nodes.md). They are ordinary bootstrap tokens, Secrets of
type bootstrap.kubernetes.io/token in kube-system; kubeadm's serve as well.`,
	}
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenDelete())
	return cmd
}

// What token create prints.
const (
	printCommand    = "command"
	printToken      = "token"
	printKubeconfig = "kubeconfig"
)

type tokenOptions struct {
	access clusterAccess

	ttl         time.Duration
	description string
	groups      []string
	server      string
	print       string
}

func newTokenCreate() *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print the command with which a machine joins",
		Long: `Make a token and print the command with which a machine joins. The token pins the cluster's authority, so that whoever
runs the command reaches this cluster and no other.

Whoever has the token can make nodes of the cluster until it expires.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return o.create(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	o.access.addFlags(fs)
	fs.DurationVar(&o.ttl, "ttl", 24*time.Hour, "how long the token is good; 0 is for ever")
	fs.StringVar(&o.description, "description", "", "what the token is for, for people")
	fs.StringSliceVar(&o.groups, "groups", nil, "further groups of who comes with the token: system:bootstrappers:…")
	fs.StringVar(&o.server, "server", "", "URL by which machines reach the server (default: that of the kubeconfig, or where the server says that it is)")
	fs.StringVarP(&o.print, "output", "o", printCommand, "what to print: command; token; or kubeconfig, with which a stock kubelet joins (--bootstrap-kubeconfig)")
	return cmd
}

func (o *tokenOptions) validate() error {
	var errs []error
	if o.ttl < 0 {
		errs = append(errs, fmt.Errorf("--ttl %s must not be negative", o.ttl))
	}
	for _, g := range o.groups {
		if err := tokens.ValidateBootstrapGroupName(g); err != nil {
			errs = append(errs, fmt.Errorf("--groups: %w", err))
		}
	}
	if !slices.Contains([]string{printCommand, printToken, printKubeconfig}, o.print) {
		errs = append(errs, fmt.Errorf("--output %q must be %s, %s or %s", o.print, printCommand, printToken, printKubeconfig))
	}
	return errors.Join(errs...)
}

func (o *tokenOptions) create(ctx context.Context, out, hints io.Writer) error {
	config, client, err := o.access.client(ctx)
	if err != nil {
		return err
	}
	authority, err := authorityOf(ctx, config, client)
	if err != nil {
		return err
	}
	pins, err := join.PinsOf(authority)
	if err != nil {
		return fmt.Errorf("the cluster's authority: %w", err)
	}
	server := o.server
	if server == "" {
		if server = config.Host; isLoopback(server) {
			server = advertised(ctx, client, server)
		}
	}
	text, err := tokens.GenerateBootstrapToken()
	if err != nil {
		return err
	}
	token, err := join.ParseToken(text)
	if err != nil {
		return err
	}
	token.Pins = pins
	if _, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, o.secret(token, time.Now()), metav1.CreateOptions{}); err != nil {
		return err
	}
	switch o.print {
	case printToken:
		say(out, "%s\n", token)
	case printKubeconfig:
		if authority, err = shown(config, server, authority); err != nil {
			return err
		}
		config, err := bootstrapKubeconfig(server, config.ServerName, authority, text)
		if err != nil {
			return err
		}
		say(out, "%s", config)
	default:
		say(out, "rowlock agent --server %s --token %s\n", server, token)
	}
	if isLoopback(server) {
		say(hints, "The server is reached at this machine only. For others it has to listen elsewhere (--bind-address), and --server says where.\n")
	}
	return nil
}

// secret is the token as it is kept.
func (o *tokenOptions) secret(t join.Token, now time.Time) *corev1.Secret {
	data := map[string]string{
		tokenapi.BootstrapTokenIDKey: t.ID, tokenapi.BootstrapTokenSecretKey: t.Secret,
		tokenapi.BootstrapTokenUsageAuthentication: "true", tokenapi.BootstrapTokenUsageSigningKey: "true",
	}
	if o.ttl > 0 {
		data[tokenapi.BootstrapTokenExpirationKey] = now.Add(o.ttl).UTC().Format(time.RFC3339)
	}
	if o.description != "" {
		data[tokenapi.BootstrapTokenDescriptionKey] = o.description
	}
	if len(o.groups) > 0 {
		data[tokenapi.BootstrapTokenExtraGroupsKey] = strings.Join(o.groups, ",")
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: tokens.BootstrapTokenSecretName(t.ID)},
		Type:       tokenapi.SecretTypeBootstrapToken, StringData: data,
	}
}

func newTokenList() *cobra.Command {
	var access clusterAccess
	cmd := &cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, client, err := access.client(cmd.Context())
			if err != nil {
				return err
			}
			list, err := client.CoreV1().Secrets(metav1.NamespaceSystem).List(cmd.Context(), metav1.ListOptions{
				FieldSelector: fields.OneTermEqualSelector("type", string(tokenapi.SecretTypeBootstrapToken)).String(),
			})
			if err != nil {
				return err
			}
			return printTokens(cmd.OutOrStdout(), list.Items, time.Now())
		},
	}
	access.addFlags(cmd.Flags())
	return cmd
}

func printTokens(w io.Writer, all []corev1.Secret, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	say(table, "ID\tTTL\tEXPIRES\tUSAGES\tDESCRIPTION\tEXTRA GROUPS\n")
	for i := range all {
		s := &all[i]
		ttl, expires := "<forever>", secrets.GetData(s, tokenapi.BootstrapTokenExpirationKey)
		if expires == "" {
			expires = "<never>"
		} else if t, err := time.Parse(time.RFC3339, expires); err != nil {
			ttl = "<invalid>"
		} else if left := t.Sub(now); left > 0 {
			ttl = duration.HumanDuration(left)
		} else {
			ttl = "<expired>"
		}
		var usages []string
		for _, u := range tokenapi.KnownTokenUsages {
			if secrets.GetData(s, tokenapi.BootstrapTokenUsagePrefix+u) == "true" {
				usages = append(usages, u)
			}
		}
		none := func(text string) string {
			if text == "" {
				return "<none>"
			}
			return text
		}
		say(table, "%s\t%s\t%s\t%s\t%s\t%s\n", secrets.GetData(s, tokenapi.BootstrapTokenIDKey), ttl, expires, none(strings.Join(usages, ",")),
			none(secrets.GetData(s, tokenapi.BootstrapTokenDescriptionKey)), none(secrets.GetData(s, tokenapi.BootstrapTokenExtraGroupsKey)))
	}
	return table.Flush()
}

func newTokenDelete() *cobra.Command {
	var access clusterAccess
	cmd := &cobra.Command{
		Use: "delete ID…", Short: "Delete tokens: no machine joins with them any more", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ids []string
			for _, arg := range args {
				id, _, _ := strings.Cut(arg, ".") // a whole token names itself as well
				if !tokens.IsValidBootstrapTokenID(id) {
					return fmt.Errorf("a token's ID must match %q", tokenapi.BootstrapTokenIDPattern)
				}
				ids = append(ids, id)
			}
			_, client, err := access.client(cmd.Context())
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := deleteToken(cmd.Context(), client, id); err != nil {
					return err
				}
				say(cmd.OutOrStdout(), "token %q deleted\n", id)
			}
			return nil
		},
	}
	access.addFlags(cmd.Flags())
	return cmd
}

func deleteToken(ctx context.Context, client kubernetes.Interface, id string) error {
	err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, tokens.BootstrapTokenSecretName(id), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no token %q", id)
	}
	return err
}

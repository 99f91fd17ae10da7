package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"

	"github.com/rowlock-io/rowlock/agents/node"
	"github.com/rowlock-io/rowlock/agents/node/gc"
	"github.com/rowlock-io/rowlock/agents/node/image"
)

// imageOptions say how a node pulls images, and how much it keeps of images, containers and logs that nobody uses any more. Where a
// kubelet has the flag, or the same in its configuration, name and meaning are its.
type imageOptions struct {
	parallel   int32
	qps, burst int32
	verify     string
	allow      []string
	providers  string
	programs   string
	credential credentialProviders

	high, low              int
	youngImage, oldImage   time.Duration
	logSize                string
	logFiles               int
	youngContainer         time.Duration
	perContainer, deadOnes int
}

func (o *imageOptions) addFlags(fs *pflag.FlagSet) {
	containers, images, logs := gc.Defaults()
	fs.Int32Var(&o.parallel, "max-parallel-image-pulls", image.DefaultParallel, "how many images are pulled at a time")
	fs.Int32Var(&o.qps, "registry-qps", 5, "how many pulls of images begin in a second; 0: there is no limit")
	fs.Int32Var(&o.burst, "registry-burst", 10, "how many pulls of images may begin at once, within --registry-qps")
	fs.StringVar(&o.verify, "image-pull-credentials-verification-policy", string(kubeletconfig.NeverVerifyPreloadedImages), "which images that are on the node a pod may use without credentials that could pull them: all of them (NeverVerify), those that were not pulled for pods (NeverVerifyPreloadedImages), of these those that --preloaded-images-verification-allowlist names (NeverVerifyAllowlistedImages), or none (AlwaysVerify)")
	fs.StringSliceVar(&o.allow, "preloaded-images-verification-allowlist", nil, "images without tag or digest, or beginnings of names with /* at the end, that pods may use without credentials where the policy asks for a list")
	fs.StringVar(&o.providers, "image-credential-provider-config", "", "file of a CredentialProviderConfig, or directory of such files: programs that know credentials for pulling images")
	fs.StringVar(&o.programs, "image-credential-provider-bin-dir", "", "directory of these programs")
	fs.IntVar(&o.high, "image-gc-high-threshold", images.High, "percent of the images' disk from which on images are removed that nobody uses; 100: they are not")
	fs.IntVar(&o.low, "image-gc-low-threshold", images.Low, "percent of the images' disk at which no more of them are removed; at most --image-gc-high-threshold")
	fs.DurationVar(&o.youngImage, "minimum-image-ttl-duration", images.MinAge, "how old an image that nobody uses is at least when it is removed for space")
	fs.DurationVar(&o.oldImage, "image-maximum-gc-age", images.MaxAge, "for how long an image is kept that nobody uses; 0: as long as there is space")
	fs.StringVar(&o.logSize, "container-log-max-size", resource.NewQuantity(logs.MaxSize, resource.BinarySI).String(), "how long a container's log becomes before it is rotated; a negative number: it is not")
	fs.IntVar(&o.logFiles, "container-log-max-files", logs.MaxFiles, "how many files there are of a container's log, the one that is written included; at least 2")
	fs.DurationVar(&o.youngContainer, "minimum-container-ttl-duration", containers.MinAge, "how old a container that has ended is at least when it is removed, unless its pod is gone")
	fs.IntVar(&o.perContainer, "maximum-dead-containers-per-container", containers.MaxPerContainer, "how many that have ended are kept of each container; a negative number: all")
	fs.IntVar(&o.deadOnes, "maximum-dead-containers", containers.Max, "how many containers that have ended are kept on the node; a negative number: all")
}

// complete puts it into a node's configuration.
func (o *imageOptions) complete(cfg *node.Config) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.parallel < 1 {
		wrong("--max-parallel-image-pulls must be at least 1")
	}
	if o.qps < 0 || o.burst < 0 {
		wrong("--registry-qps and --registry-burst must not be negative")
	}
	policy := kubeletconfig.ImagePullCredentialsVerificationPolicy(o.verify)
	switch policy {
	case kubeletconfig.NeverVerify, kubeletconfig.NeverVerifyPreloadedImages, kubeletconfig.NeverVerifyAllowlistedImages, kubeletconfig.AlwaysVerify:
	default:
		wrong("--image-pull-credentials-verification-policy: %q is none of %s, %s, %s, %s", o.verify,
			kubeletconfig.NeverVerify, kubeletconfig.NeverVerifyPreloadedImages, kubeletconfig.NeverVerifyAllowlistedImages, kubeletconfig.AlwaysVerify)
	}
	if len(o.allow) > 0 && policy != kubeletconfig.NeverVerifyAllowlistedImages {
		wrong("--preloaded-images-verification-allowlist is for --image-pull-credentials-verification-policy=%s", kubeletconfig.NeverVerifyAllowlistedImages)
	}
	if (o.providers == "") != (o.programs == "") {
		wrong("--image-credential-provider-config and --image-credential-provider-bin-dir are needed together")
	}
	cfg.Pulls = node.Pulls{Parallel: o.parallel, QPS: float32(o.qps), Burst: int(o.burst), Verify: policy, Allow: o.allow}
	if o.providers != "" {
		cfg.Pulls.Providers = func(client kubernetes.Interface) error { return o.credential.register(client, o.providers, o.programs) }
	}
	if o.youngImage < 0 || o.oldImage < 0 {
		wrong("--minimum-image-ttl-duration and --image-maximum-gc-age must not be negative")
	}
	if o.oldImage > 0 && o.oldImage <= o.youngImage {
		wrong("--image-maximum-gc-age must be longer than --minimum-image-ttl-duration")
	}
	size, err := resource.ParseQuantity(o.logSize)
	if err != nil {
		wrong("--container-log-max-size: %w", err)
	}
	keep := node.Kept()
	keep.Images.High, keep.Images.Low, keep.Images.MinAge, keep.Images.MaxAge = o.high, o.low, o.youngImage, o.oldImage
	keep.Logs.MaxSize, keep.Logs.MaxFiles = size.Value(), o.logFiles
	keep.Containers.MinAge, keep.Containers.MaxPerContainer, keep.Containers.Max = o.youngContainer, o.perContainer, o.deadOnes
	cfg.Keep = &keep
	return errors.Join(append(errs, keep.Check())...)
}

// credentialProviders are the programs that know credentials for images. Upstream keeps them for the whole process, of which a node that is
// started again is a part, with another client.
type credentialProviders struct {
	once   sync.Once
	err    error
	client atomic.Pointer[kubernetes.Interface]
}

// register has images pulled with what the programs say.
func (p *credentialProviders) register(client kubernetes.Interface, config, directory string) error {
	p.client.Store(&client)
	p.once.Do(func() {
		p.err = image.Providers{Config: config, Directory: directory, Token: p.token, ServiceAccount: p.account}.Register()
	})
	if p.err != nil {
		return fmt.Errorf("credential providers for images: %w", p.err)
	}
	return nil
}

// credentialTimeout bounds the wait for what programs are told of a pod's service account.
const credentialTimeout = 10 * time.Second

func (p *credentialProviders) token(namespace, name string, ask *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	ctx, cancel := context.WithTimeout(context.Background(), credentialTimeout)
	defer cancel()
	return (*p.client.Load()).CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, ask, metav1.CreateOptions{})
}

func (p *credentialProviders) account(namespace, name string) (*corev1.ServiceAccount, error) {
	ctx, cancel := context.WithTimeout(context.Background(), credentialTimeout)
	defer cancel()
	return (*p.client.Load()).CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
}

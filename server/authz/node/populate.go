package node

import (
	"k8s.io/client-go/informers"
	certificates "k8s.io/client-go/informers/certificates/v1beta1"
	core "k8s.io/client-go/informers/core/v1"
	resource "k8s.io/client-go/informers/resource/v1"
	storage "k8s.io/client-go/informers/storage/v1"
	toolscache "k8s.io/client-go/tools/cache"
)

// populating notes when the handlers that upstream adds to informers have seen all there was: that a store is filled does
// not say so yet.
type populating struct{ synced []toolscache.InformerSynced }

func (p *populating) pods(in core.PodInformer) core.PodInformer { return podInformer{in, p} }

func (p *populating) volumes(in core.PersistentVolumeInformer) core.PersistentVolumeInformer {
	return volumeInformer{in, p}
}

func (p *populating) attachments(in storage.VolumeAttachmentInformer) storage.VolumeAttachmentInformer {
	return attachmentInformer{in, p}
}

func (p *populating) slices(in resource.ResourceSliceInformer) resource.ResourceSliceInformer {
	return sliceInformer{in, p}
}

func (p *populating) certificates(f informers.SharedInformerFactory) certificates.PodCertificateRequestInformer {
	if !withPodCertificates() {
		return nil
	}
	return certificateInformer{f.Certificates().V1beta1().PodCertificateRequests(), p}
}

type (
	podInformer struct {
		core.PodInformer
		p *populating
	}
	volumeInformer struct {
		core.PersistentVolumeInformer
		p *populating
	}
	attachmentInformer struct {
		storage.VolumeAttachmentInformer
		p *populating
	}
	sliceInformer struct {
		resource.ResourceSliceInformer
		p *populating
	}
	certificateInformer struct {
		certificates.PodCertificateRequestInformer
		p *populating
	}
)

func (i podInformer) Informer() toolscache.SharedIndexInformer {
	return observed{i.PodInformer.Informer(), i.p}
}

func (i volumeInformer) Informer() toolscache.SharedIndexInformer {
	return observed{i.PersistentVolumeInformer.Informer(), i.p}
}

func (i attachmentInformer) Informer() toolscache.SharedIndexInformer {
	return observed{i.VolumeAttachmentInformer.Informer(), i.p}
}

func (i sliceInformer) Informer() toolscache.SharedIndexInformer {
	return observed{i.ResourceSliceInformer.Informer(), i.p}
}

func (i certificateInformer) Informer() toolscache.SharedIndexInformer {
	return observed{i.PodCertificateRequestInformer.Informer(), i.p}
}

// observed is an informer whose handlers' progress is noted.
type observed struct {
	toolscache.SharedIndexInformer
	p *populating
}

func (o observed) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	r, err := o.SharedIndexInformer.AddEventHandler(h)
	if err == nil {
		o.p.synced = append(o.p.synced, r.HasSynced)
	}
	return r, err
}

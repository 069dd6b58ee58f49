// What is administered, as one file.
export { Alerts } from './alert-list';
export { Audit } from './audit';
export { DeliveryPage } from './deliveries';
export { Identity } from './identity';
export { Keys } from './keys';
export { Nodes } from './nodes';
export { Operators } from './operators';
export { Sessions } from './sessions';
export { Settings } from './settings';
export { Tokens } from './tokens';
export { Usage } from './usage';
export { WebhookPage, Webhooks } from './webhooks';

// What is looked at while something happens, as one file.
export { ChannelPage, Channels } from './channels';
export { ConnectionPage, Connections } from './connections';
export { Explain } from './explain';
export { Sender } from './sender';

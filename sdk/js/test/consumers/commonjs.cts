// As an application with CommonJS uses the built package.
import Pusher = require('@fanfare/client/pusher');
import { encryption } from '@fanfare/client/encrypted';
import { Fanfare } from '@fanfare/client';
import { useEvent } from '@fanfare/client/react';
import { recover } from '@fanfare/client/recover';

const client = new Fanfare('key', { url: 'https://host', encryption });
client.channel('orders').bind('shipped', (data) => data.id);
void [recover, useEvent, Pusher];

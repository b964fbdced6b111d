/** A logger that keeps what it was told: `warn a connection of the task was refused {"destination":…}`. */
import { type LogFields, type Logger, logMethods } from '../../host/lib/logger.ts';

export class TestLogger {
  readonly lines: string[] = [];
  readonly logger: Logger = {
    ...logMethods((level) => (first: string | LogFields, second?: string) => {
      const [fields, message] = typeof first === 'string' ? [{}, first] : [first, second];
      this.lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
    }),
    child: () => this.logger,
    enabled: () => true,
    close: async () => {},
  };
}
